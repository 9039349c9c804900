-- Accept a flow: its nodes, and a run of its own; and let it begin. ARGV: id, function of the flow's run, priority, due, dedupe,
-- its window (ms), parent, trace, most runs open in a queue, most bytes of a step's arguments, number of steps, callback
-- ('' for none), number of queues, then queue, steps in it of each, then the nodes. Returns verdict, id.
-- include: runs accepting ends flows
local id, fn, prio, due, dedupe, window = unpack(ARGV, FIRST, FIRST + 5)
local parent, trace, most, limit, steps, callback, queues = unpack(ARGV, FIRST + 6, FIRST + 12)
local first = FIRST + 13 + 2 * queues

local known = known_as(id, fn, dedupe)
if known then
  return {'known', known}
end
for at = FIRST + 13, first - 1, 2 do
  if tonumber(most) > 0 and open_in(ARGV[at]) + ARGV[at + 1] > tonumber(most) then
    return {'full', id}
  end
end
remember(id, fn, dedupe, window)
local key = ns .. 'flow:' .. id
redis.call('DEL', key)
redis.call(
  'HSET', key, 'fn', fn, 'size', #ARGV - first + 1, 'steps', steps, 'open', 0, 'succeeded', 0, 'failed', 0, 'cancelled', 0,
  'round', 0, 'trace', trace, 'payload_max', limit
)
for at = first, #ARGV, 500 do
  local nodes = {}
  for n = at, math.min(at + 500 - 1, #ARGV) do
    nodes[#nodes + 1] = 'node:' .. n - first
    nodes[#nodes + 1] = ARGV[n]
  end
  redis.call('HSET', key, unpack(nodes))
end
due = due_of(due)
local run = {id = id, fn = fn, q = '', prio = prio, trigger = 'submit', due = due, parent = parent, trace = trace}
flows().begin(id, record(run, 'running', with_callback(callback)) and due)
return {'accepted', id}
