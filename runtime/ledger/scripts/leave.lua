-- A worker is gone in good order. ARGV: worker.
redis.call('DEL', ns .. 'worker:' .. ARGV[FIRST], ns .. 'info:' .. ARGV[FIRST])
redis.call('ZREM', ns .. 'workers', ARGV[FIRST])
