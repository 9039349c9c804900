-- Write what came of messages. ARGV of each: message, token, verdict (delivered, waiting: try again, dead), status ('' for none), error, ms until the next try. Returns 1 for each that was written, 0 for one that is
-- somebody else's by now, or no more.
local DEAD_KEPT = 10000
local answer = {}

local function write(message, token, verdict, status, error, pause)
  local key, waiting = ns .. 'callback:' .. message, ns .. 'callbacks'
  local found = redis.call('HMGET', key, 'token', 'state')
  -- What has been delivered is, whoever else tries by now.
  if found[2] ~= 'waiting' or (found[1] ~= token and verdict ~= 'delivered') then
    return 0
  end
  redis.call('HINCRBY', key, 'tries', 1)
  redis.call('HSET', key, 'state', verdict, 'status', status, 'error', error, 'tried', now, 'next', now + pause)
  if verdict == 'waiting' then
    redis.call('ZADD', waiting, now + pause, message)
    return 1
  end
  redis.call('ZREM', waiting, message)
  if verdict == 'delivered' then
    redis.call('HDEL', key, 'output', 'next')
  else
    local dead = ns .. 'callbacks_dead'
    redis.call('HDEL', key, 'next')
    redis.call('PEXPIRE', key, KEEP.dead + SLACK)
    redis.call('ZADD', dead, now, message)
    redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - KEEP.dead)
    redis.call('ZREMRANGEBYRANK', dead, 0, -DEAD_KEPT - 1)
    redis.call('PEXPIRE', dead, KEEP.dead + SLACK)
  end
  return 1
end

for at = FIRST, #ARGV, 6 do
  local message, token, verdict, status, error, pause = unpack(ARGV, at, at + 5)
  answer[#answer + 1] = write(message, token, verdict, status, error, tonumber(pause))
end
return answer
