-- Try messages again that were given up, or now those that wait. ARGV: messages. Returns for each: waiting, delivered (left
-- alone), or unknown.
local KEPT = 8 * 86400000
local answer = {}
for at = FIRST, #ARGV do
  local message = ARGV[at]
  local key = ns .. 'callback:' .. message
  local state = redis.call('HGET', key, 'state')
  if state == 'dead' then
    redis.call('HSET', key, 'state', 'waiting', 'tries', 0)
    redis.call('PEXPIRE', key, math.max(LONGEST, KEPT))
    redis.call('ZREM', ns .. 'callbacks_dead', message)
  end
  if state == 'dead' or state == 'waiting' then
    redis.call('ZADD', ns .. 'callbacks', now, message)
  end
  answer[#answer + 1] = state == 'dead' and 'waiting' or state or 'unknown'
end
return answer
