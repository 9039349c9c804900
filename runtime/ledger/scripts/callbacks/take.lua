-- Take messages whose time has come; they are somebody else's when the lease is over. ARGV: how many, lease (ms), how many of
-- one host, then host, how many of it are being sent, of each. Returns for each: message, all its fields.
local LOOKED = 500 -- messages; where there may be more, those of hosts that have enough go behind all, which get their turn so
local most, lease, per_host = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local waiting, answer, crowded, counts = ns .. 'callbacks', {}, {}, {}
for at = FIRST + 3, #ARGV, 2 do
  counts[ARGV[at]] = tonumber(ARGV[at + 1])
end

local function take(message)
  local key = ns .. 'callback:' .. message
  local url = redis.call('HGET', key, 'url')
  if not url then
    redis.call('ZREM', waiting, message) -- nobody took it for all its time
    return
  end
  local host = string.lower(string.match(url, '^%a+://([^/?#]*)') or '')
  if (counts[host] or 0) >= per_host then
    crowded[#crowded + 1] = message
    return
  end
  counts[host] = (counts[host] or 0) + 1
  redis.call('ZADD', waiting, now + lease, message)
  redis.call('HINCRBY', key, 'token', 1)
  answer[#answer + 1] = {message, redis.call('HGETALL', key)}
end

local due = redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, LOOKED)
for _, message in ipairs(due) do
  if #answer >= most then
    break
  end
  take(message)
end
if #due == LOOKED then
  for _, message in ipairs(crowded) do
    redis.call('ZADD', waiting, now, message)
  end
end
return answer
