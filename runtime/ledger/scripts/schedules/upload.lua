-- Take definitions of a set. ARGV: digest, how many there are if these are the last of it, else ''; id, rule, JSON of
-- each.
-- include: states schedules
local digest, all = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local set = ns .. 'set:' .. digest
if redis.call('HEXISTS', set, '') == 0 then -- else another scheduler was faster
  local values = {}
  for at = FIRST + 2, #ARGV, 3 do
    values[#values + 1] = ARGV[at]
    values[#values + 1] = told_of(ARGV[at + 1], ARGV[at + 2])
  end
  send_many('HSET', set, values)
  if all and redis.call('HLEN', set) >= all then -- the store may have been emptied since those before
    redis.call('HSET', set, '', '-')
  end
  redis.call('PEXPIRE', set, DAY)
end
