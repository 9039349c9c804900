-- Cancel runs. ARGV: ids. Returns for each: cancelled, cancelling (it runs, its worker hears of it at its next beat),
-- finished, or unknown.
local answer = {}

local function cancel(id)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'state', 'fn', 'q')
  local state, fn, q = found[1], found[2], found[3]
  if not state then
    return 'unknown'
  elseif state == 'running' then
    redis.call('HSET', run, 'cancel', 1)
    return 'cancelling'
  elseif state == 'scheduled' or state == 'queued' or state == 'retrying' then
    redis.call('ZREM', ns .. 'ready:' .. q, id)
    redis.call('ZREM', ns .. 'due:' .. q, id)
    leave_wait(id, q, fn)
    close(id, fn, 'cancelled', 'cancelled', '')
    return 'cancelled'
  end
  return 'finished'
end

for at = FIRST, #ARGV do
  answer[#answer + 1] = cancel(ARGV[at])
end
return answer
