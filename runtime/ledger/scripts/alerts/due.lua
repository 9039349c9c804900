-- What is to be sent: of each channel of a rule the oldest message, for those behind it wait. ARGV: which are under way.
-- Returns name, hash of each; only those that are due.
-- include: alerts/holding
local answer, met = {}, {}
for at = FIRST, #ARGV do
  met[ARGV[at]] = true
end
for _, name in ipairs(redis.call('ZRANGE', outbox, 0, -1)) do
  local lane = string.match(name, '^[^:]*:[^:]*')
  if not met[lane] then
    met[lane] = true
    local found = redis.call('HGETALL', ns .. 'alert:' .. name)
    if #found == 0 then
      redis.call('ZREM', outbox, name)
    elseif tonumber(redis.call('HGET', ns .. 'alert:' .. name, 'due')) <= now then
      answer[#answer + 1] = name
      answer[#answer + 1] = found
    end
  end
end
return answer
