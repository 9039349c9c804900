-- Accept runs. ARGV: submissions, as accepting.lua has them. Returns verdict, id for each.
-- include: runs accepting
local answer = {}
block = math.max(1, 2 * (#ARGV - FIRST + 1))
gather()
for at = FIRST, #ARGV do
  local verdict, id = accept(ARGV[at])
  answer[#answer + 1] = verdict
  answer[#answer + 1] = id
end
write_gathered()
return answer
