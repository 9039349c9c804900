-- When the reaper has something to do next, in ms; nil for never.
local first
local function look(key)
  local score = tonumber(redis.call('ZRANGE', ns .. key, 0, 0, 'WITHSCORES')[2])
  if score and (not first or score < first) then
    first = score
  end
end

look('flows')
look('until')
for _, q in ipairs(redis.call('SMEMBERS', ns .. 'queues')) do
  for _, kind in ipairs({'due:', 'leases:', 'unknown:'}) do
    look(kind .. q)
  end
end
return first
