-- Renew the holds of calls. ARGV: lease in ms; digest, id of each call. Returns 1 for each that holds its key, else 0.
-- include: once
local lease = tonumber(ARGV[FIRST])
local answer = {}
redis.call('ZREM', ns .. 'workers', '') -- as in beat.lua: a store that is full shall let us go on
for at = FIRST + 1, #ARGV, 2 do
  local place = ns .. 'once:' .. ARGV[at]
  local found = redis.call('HMGET', place, 'holder', 'kept')
  local holds = found[1] == ARGV[at + 1] and not found[2]
  if holds then
    redis.call('HSET', place, 'over', now + lease)
    redis.call('PEXPIRE', place, lease + SLACK)
  end
  answer[#answer + 1] = holds and 1 or 0
end
return answer
