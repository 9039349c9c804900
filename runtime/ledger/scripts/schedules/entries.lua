-- Schedules in the order of their ids. ARGV: the id after which, how many. Returns entries.
-- include: runs ticks schedules schedules/read
local after = ARGV[FIRST] == '' and '-' or '(' .. ARGV[FIRST]
local answer, current = {}, current_set()
for _, id in ipairs(redis.call('ZRANGE', ns .. 'schedule_ids', after, '+', 'BYLEX', 'LIMIT', 0, ARGV[FIRST + 1])) do
  answer[#answer + 1] = entry_of(id, current)
end
return answer
