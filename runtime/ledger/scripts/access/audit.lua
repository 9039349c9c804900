-- A page of the audit log, newest first. ARGV: how many at most, "+inf" or "(" and the score of the last one seen, the oldest
-- (ms). Returns entries, each with its score.
return redis.call(
  'ZREVRANGEBYSCORE', ns .. 'audit', ARGV[FIRST + 1], ARGV[FIRST + 2], 'WITHSCORES', 'LIMIT', 0, ARGV[FIRST]
)
