-- What came of sending. ARGV: name, outcome ("sent", "again", "given up"), ms until the next try, error, note (JSON) of the end.
-- include: alerts/holding
local name, outcome, pause, fault, note = unpack(ARGV, FIRST, FIRST + 4)
local key = ns .. 'alert:' .. name
if redis.call('ZSCORE', outbox, name) == false then
  return 0 -- another has sent it, too
end
if outcome == 'again' then
  redis.call('HSET', key, 'due', now + tonumber(pause), 'error', fault)
  redis.call('HINCRBY', key, 'tries', 1)
  return 1
end
redis.call('ZREM', outbox, name)
redis.call('DEL', key)
redis.call('LPUSH', ns .. 'alert_recent', note)
redis.call('LTRIM', ns .. 'alert_recent', 0, RECENT - 1)
redis.call('PEXPIRE', ns .. 'alert_recent', KEEP.dead)
return 1
