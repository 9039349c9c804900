-- Run finished runs again, with the payload they had. ARGV: ids. Returns for each: queued, succeeded (left alone), open
-- or unknown.
local answer = {}

local function redrive(id)
  local run, input, output, log, progress = keys_of(id)
  local found = redis.call('HMGET', run, 'state', 'fn', 'q', 'prio')
  local state, fn, q = found[1], found[2], found[3]
  if not state then
    return 'unknown'
  elseif state == 'succeeded' then
    return 'succeeded'
  elseif state ~= 'failed' and state ~= 'cancelled' then
    return 'open'
  end
  redis.call('ZREM', ns .. 'dead:' .. fn, id)
  redis.call('ZREM', ns .. 'done:' .. fn, id)
  redis.call('HDEL', run, 'reason', 'finished', 'failures', 'crashes', 'losses', 'expires', 'first')
  redis.call('HSET', run, 'state', 'queued', 'due', now)
  redis.call('HINCRBY', run, 'redriven', 1)
  redis.call('DEL', output, progress)
  redis.call('PERSIST', run)
  redis.call('PERSIST', input)
  redis.call('PERSIST', log)
  redis.call('ZADD', ns .. 'open:' .. fn, stamp(), id)
  make_ready(id, q, tonumber(found[4]))
  return 'queued'
end

for at = FIRST, #ARGV do
  answer[#answer + 1] = redrive(ARGV[at])
end
return answer
