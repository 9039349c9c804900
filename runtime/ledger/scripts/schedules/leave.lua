-- A scheduler ends in good order. ARGV: its name.
-- include: states schedules
redis.call('ZREM', ns .. 'schedulers', ARGV[FIRST])
redis.call('DEL', ns .. 'scheduler:' .. ARGV[FIRST])
elect()
