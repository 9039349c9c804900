-- Take messages whose time has come; they are somebody else's when the lease is over. ARGV: how many, lease (ms).
-- Returns for each: message, token, all its fields.
local most, lease = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local answer = {}
for _, message in ipairs(redis.call('ZRANGEBYSCORE', ns .. 'callbacks', '-inf', now, 'LIMIT', 0, most)) do
  local key = ns .. 'callback:' .. message
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', ns .. 'callbacks', message) -- nobody took it for all its time
  else
    redis.call('ZADD', ns .. 'callbacks', now + lease, message)
    redis.call('HINCRBY', key, 'token', 1)
    answer[#answer + 1] = {message, redis.call('HGETALL', key)}
  end
end
return answer
