-- Run finished runs again, with the payload they had. Of a step, its whole flow. ARGV: ids. Returns for each: queued,
-- succeeded (left alone), open, refused (a message that cannot be run: its payload is no arguments) or unknown.
-- include: runs ends acts flows
local answer = {}

local function redrive(id)
  local run = ns .. 'run:' .. id
  local state, fn, q, prio, place, why = unpack(redis.call('HMGET', run, 'state', 'fn', 'q', 'prio', 'flow', 'reason'), 1, 6)
  if not state then
    return 'unknown'
  elseif state == 'succeeded' then
    return 'succeeded'
  elseif is_open(state) then
    return 'open'
  elseif why == 'bad message' then
    return 'refused'
  elseif q == '' then
    return flows().redrive(id, fn)
  end
  local flow = place and place_of(place)
  local known = flow and redis.call('HMGET', ns .. 'run:' .. flow, 'state', 'fn', 'q')
  if known and known[3] == '' then
    return is_open(known[1]) and 'open' or known[1] == 'succeeded' and 'succeeded' or flows().redrive(flow, known[2])
  elseif flow then
    redis.call('HDEL', run, 'flow') -- it is gone
  end
  run_again(id, fn, q, prio)
  return 'queued'
end

for at = FIRST, #ARGV do
  answer[#answer + 1] = redrive(ARGV[at])
end
return answer
