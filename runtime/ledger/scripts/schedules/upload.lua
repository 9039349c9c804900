-- Take definitions of a set. ARGV: digest, 1 if these are the last of it; id, rule, JSON of each.
-- include: schedules
local digest, complete = ARGV[FIRST], ARGV[FIRST + 1]
local set = ns .. 'set:' .. digest
if redis.call('HEXISTS', set, '') == 0 then -- else another scheduler was faster
  local values = {}
  for at = FIRST + 2, #ARGV, 3 do
    values[#values + 1] = ARGV[at]
    values[#values + 1] = told_of(ARGV[at + 1], ARGV[at + 2])
  end
  send_many('HSET', set, values)
  if complete == '1' then
    redis.call('HSET', set, '', '-')
  end
  redis.call('PEXPIRE', set, DAY)
end
