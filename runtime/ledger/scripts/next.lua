-- When the reaper has something to do next, in ms; nil for never.
local first = tonumber(redis.call('ZRANGE', ns .. 'flows', 0, 0, 'WITHSCORES')[2])
for _, q in ipairs(redis.call('SMEMBERS', ns .. 'queues')) do
  for _, kind in ipairs({'due:', 'leases:', 'unknown:'}) do
    local score = redis.call('ZRANGE', ns .. kind .. q, 0, 0, 'WITHSCORES')[2]
    if score and (not first or tonumber(score) < first) then
      first = tonumber(score)
    end
  end
end
return first
