-- Change a schedule at run time, in place of all earlier changes. ARGV: id, its new rule ('' for the one it has), the changes
-- as JSON ('' for none).
-- include: states schedules
local id, rule, text = unpack(ARGV, FIRST, FIRST + 2)
if text == '' then
  redis.call('HDEL', ns .. 'overrides', id)
else
  redis.call('HSET', ns .. 'overrides', id, told_of(rule, text))
end
local told = redis.call('ZSCORE', ns .. 'schedule_ids', id) and definition_of(id, current_set())
if told then
  define({id}, {told})
end
change(id)
