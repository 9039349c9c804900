-- Take away a schedule that was added at run time; its open runs stay. ARGV: id. Returns removed, unknown, declared.
-- include: states schedules
local id = ARGV[FIRST]
if redis.call('HEXISTS', ns .. 'set:' .. current_set(), id) == 1 then
  return 'declared'
elseif redis.call('HDEL', ns .. 'added', id) == 0 then
  return 'unknown'
end
redis.call('HDEL', ns .. 'overrides', id)
redis.call('ZREM', ns .. 'schedule_ids', id)
redis.call('HDEL', STATES, id)
redis.call('DEL', ns .. 'skips:' .. id)
change(id)
return 'removed'
