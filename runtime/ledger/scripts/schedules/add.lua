-- Add a schedule at run time. ARGV: id, rule, JSON, 1 to replace an added one. Returns added, replaced, known, declared.
-- include: states schedules
local id, rule, text, replace = unpack(ARGV, FIRST, FIRST + 3)
if redis.call('HEXISTS', ns .. 'set:' .. current_set(), id) == 1 then
  return 'declared'
end
local there = redis.call('HEXISTS', ns .. 'added', id) == 1
if there and replace ~= '1' then
  return 'known'
end
local told = told_of(rule, text)
redis.call('HSET', ns .. 'added', id, told)
redis.call('ZADD', ns .. 'schedule_ids', 0, id)
define({id}, {told})
change(id)
return there and 'replaced' or 'added'
