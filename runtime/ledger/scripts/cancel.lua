-- Cancel runs. ARGV: ids. Returns for each: cancelled, cancelling (it runs, its worker hears of it at its next beat),
-- finished, or unknown.
-- include: runs ends acts flows
local answer = {}

local function cancel(id)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'fn', 'q', 'flow')
  local state, fn, q, flow = unpack(found, 1, 4)
  if not state then
    return 'unknown'
  elseif not is_open(state) then
    return 'finished'
  end
  return q == '' and flows().cancel(id) or stop_run(id, state, fn, q, flow)
end

for at = FIRST, #ARGV do
  answer[#answer + 1] = cancel(ARGV[at])
end
go_on()
return answer
