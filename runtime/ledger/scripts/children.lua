-- The runs that runs have submitted. ARGV: id, cursor ("0" to begin) of each. Returns for each: the next cursor ("0" at
-- the end), and some ids.
local answer = {}
for at = FIRST, #ARGV, 2 do
  local found = redis.call('SSCAN', ns .. 'children:' .. ARGV[at], ARGV[at + 1], 'COUNT', 500)
  answer[#answer + 1] = found[1]
  answer[#answer + 1] = found[2]
end
return answer
