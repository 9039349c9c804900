-- A worker says what it knows. ARGV: worker, how long that holds (ms), info (JSON), number of functions; function,
-- limits (JSON, '' for none) of each; then function, JSON of [target, queue] of each on_failure.
local worker, stays, info, count = unpack(ARGV, FIRST, FIRST + 3)
local mine = ns .. 'worker:' .. worker
local first = FIRST + 4
redis.call('DEL', mine)
redis.call('HSET', mine, '', '') -- an empty hash is none, and would read as not registered
for at = first, first + 2 * count - 1, 2 do
  redis.call('HSET', mine, ARGV[at], ARGV[at + 1])
  redis.call('HDEL', ns .. 'on_failure', ARGV[at])
end
for at = first + 2 * count, #ARGV, 2 do
  redis.call('HSET', ns .. 'on_failure', ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', mine, stays + SLACK)
redis.call('SET', ns .. 'info:' .. worker, info, 'PX', stays + SLACK)
redis.call('ZADD', ns .. 'workers', now + stays, worker)
