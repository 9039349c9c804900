-- Some schedules. ARGV: ids. Returns for each: its entry, its skips; or nil.
-- include: runs ticks schedules schedules/read
local answer, current = {}, current_set()
for at = FIRST, #ARGV do
  local entry = entry_of(ARGV[at], current)
  answer[#answer + 1] = entry and {entry, redis.call('LRANGE', ns .. 'skips:' .. ARGV[at], 0, -1)}
end
return answer
