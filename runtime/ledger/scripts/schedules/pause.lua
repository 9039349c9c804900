-- Let a schedule fire no more; or again, from now on. ARGV: id, 1 to pause. Returns 1 if that is a change.
-- include: schedules
local id, paused = ARGV[FIRST], ARGV[FIRST + 1] == '1'
local key = ns .. 'schedule:' .. id
if (redis.call('HEXISTS', key, 'paused') == 1) == paused then
  return 0
elseif paused then
  redis.call('HSET', key, 'paused', now)
else
  redis.call('HDEL', key, 'paused')
  begin_now(id)
end
if not redis.call('ZSCORE', ns .. 'schedule_ids', id) then -- its definition is to come
  redis.call('PEXPIRE', key, ABSENT)
end
change(id)
return 1
