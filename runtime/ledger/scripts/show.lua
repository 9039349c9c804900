-- All that is known of runs. ARGV: ids. Returns for each: id, fields, attempts, result or error, progress, payload; or nil.
local answer = {}
for at = FIRST, #ARGV do
  local run, input, output, log, progress = keys_of(ARGV[at])
  local fields = redis.call('HGETALL', run)
  answer[#answer + 1] = #fields > 0 and {
    ARGV[at], fields, redis.call('LRANGE', log, 0, -1), redis.call('GET', output), redis.call('GET', progress),
    redis.call('GET', input)
  } or false
end
return answer
