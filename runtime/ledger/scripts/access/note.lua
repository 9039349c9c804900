-- Add to the audit log. ARGV: how long an entry is kept (ms), how many are, the entry (JSON, no two alike).
--
-- audit  sorted set of entries by when they were written (ms)
local audit, keeps, most = ns .. 'audit', tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
redis.call('ZADD', audit, stamp(), ARGV[FIRST + 2])
redis.call('ZREMRANGEBYSCORE', audit, '-inf', now - keeps)
redis.call('ZREMRANGEBYRANK', audit, 0, -most - 1)
redis.call('PEXPIRE', audit, keeps + SLACK)
return 1
