-- Accept runs. ARGV: submissions. Returns verdict, id for each.
-- include: runs accepting
local answer = {}
block = 2 * math.ceil((#ARGV - FIRST + 1) / SUBMISSION)
for at = FIRST, #ARGV, SUBMISSION do
  local verdict, id = accept(at)
  answer[#answer + 1] = verdict
  answer[#answer + 1] = id
end
return answer
