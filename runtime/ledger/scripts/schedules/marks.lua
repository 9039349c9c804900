-- What was changed of schedules, those too that no scheduler has registered yet. ARGV: ids. Returns for each: its
-- override, 1 if it is paused.
-- include: states
local answer = {}
for at = FIRST, #ARGV do
  local state = find_state(ARGV[at])
  answer[#answer + 1] = {redis.call('HGET', ns .. 'overrides', ARGV[at]), state and state.paused > 0 and 1 or 0}
end
return answer
