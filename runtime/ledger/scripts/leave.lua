-- A worker is gone in good order. ARGV: worker.
local worker = ARGV[FIRST]
redis.call('DEL', ns .. 'worker:' .. worker, ns .. 'knows:' .. worker, ns .. 'info:' .. worker)
redis.call('ZREM', ns .. 'workers', worker)
