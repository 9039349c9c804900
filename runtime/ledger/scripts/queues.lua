-- How long each queue is. Returns name, ready, due, running, unknown, limited, paused, ms since the oldest ready one was due.
local answer = {}

-- The first of each priority is its oldest.
local function age(q)
  local oldest = now
  for band = 0, 9 do
    local ids = redis.call('ZRANGEBYSCORE', ns .. 'ready:' .. q, band * BAND, '(' .. (band + 1) * BAND, 'LIMIT', 0, 1)
    if ids[1] then
      oldest = math.min(oldest, tonumber(redis.call('HGET', ns .. 'run:' .. ids[1], 'due') or now))
    end
  end
  return now - oldest
end

for _, q in ipairs(redis.call('SMEMBERS', ns .. 'queues')) do
  answer[#answer + 1] = {
    q, redis.call('ZCARD', ns .. 'ready:' .. q), redis.call('ZCARD', ns .. 'due:' .. q),
    redis.call('ZCARD', ns .. 'leases:' .. q), redis.call('ZCARD', ns .. 'unknown:' .. q),
    redis.call('ZCARD', ns .. 'limited:' .. q),
    redis.call('SISMEMBER', ns .. 'paused', q), age(q)
  }
end
return answer
