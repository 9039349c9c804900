-- What was changed of schedules, those too that no scheduler has registered yet. ARGV: ids. Returns for each: its
-- override, when it was paused.
local answer = {}
for at = FIRST, #ARGV do
  answer[#answer + 1] = {
    redis.call('HGET', ns .. 'overrides', ARGV[at]), redis.call('HGET', ns .. 'schedule:' .. ARGV[at], 'paused')
  }
end
return answer
