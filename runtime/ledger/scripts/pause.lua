-- Pause or resume a queue: nobody claims from it meanwhile. ARGV: queue, 1 to pause. Returns 1 if that is a change.
local q = ARGV[FIRST]
if ARGV[FIRST + 1] == '1' then
  redis.call('SADD', ns .. 'queues', q)
  return redis.call('SADD', ns .. 'paused', q)
end
ring(q)
return redis.call('SREM', ns .. 'paused', q)
