-- How steps begin.
-- The result that stands for PREVIOUS in a step.
local function previous(flow, n)
  local child = n
  for _, above in ipairs(node_of(flow, n).path) do
    local node = node_of(flow, above)
    if node.kind == 'chain' and child > node.first then
      return get(flow, 'result:' .. child - 1)
    end
    child = above
  end
  return 'null'
end

-- A step's arguments, with the last result where it is to stand, and their bytes; false if they are too long.
local function payload_of(flow, n, limit)
  local pieces = node_of(flow, n).pieces
  local last = #pieces > 1 and previous(flow, n) or ''
  local size = (#pieces - 1) * #last
  for _, piece in ipairs(pieces) do
    size = size + #piece
  end
  return (limit == 0 or size <= limit) and table.concat(pieces, last), size
end

local function add_step(flow, n, run)
  local node, limit = node_of(flow, n), tonumber(flow.known.payload_max or 0)
  local payload, size = payload_of(flow, n, limit)
  local extra = {'flow', run.flow}
  if flow.known.round ~= '0' then
    extra = {'flow', run.flow, 'redriven', flow.known.round}
  end
  add_run({
    id = run.id, fn = node.fn, q = node.q, prio = node.prio, trigger = 'flow', payload = payload or '',
    due = payload and node.delay and string.format('%d', now + node.delay), age = node.age, parent = flow.id,
    trace = flow.known.trace
  }, extra)
  if payload then
    steps_left = steps_left - math.floor(size / STEP_BYTES)
  else
    redis.call('ZREM', ns .. 'ready:' .. node.q, run.id)
    close(run.id, node.fn, 'failed', 'bad arguments', failure_of('InputError', string.format(
      'the arguments of %s are %d bytes with the last result in them, more than %d; keep that elsewhere and return where it is, '
      .. 'or raise [queue] payload_max, for flows submitted from then on',
      node.fn, size, limit
    )), run.flow)
  end
end

-- Make a run of a step; or run the one again that it had in an earlier round, if it is still kept.
local function start_step(flow, n)
  local node, before = node_of(flow, n), get(flow, 'state:' .. n)
  local id = flow.id .. '-' .. n
  local run = {id = id, fn = node.fn, flow = n .. ':' .. flow.id}
  if before then
    count(flow, string.match(before, ':(.*)$'), -1)
  end
  set_state(flow, n, 'open')
  count(flow, 'open', 1)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'fn', 'q', 'prio', 'flow', 'in')
  local state, fn = found[1], found[2]
  if not state then
    return add_step(flow, n, run)
  elseif is_open(state) or found[5] ~= run.flow then
    run.state, run.reason = 'failed', 'error'
    run.output = failure_of('SubmitError', string.format(
      'there is another run %s, which is an id of this flow: give the flow another id; or purge that run once it is over, '
      .. 'and redrive the flow', id
    ))
    ended[#ended + 1] = run
  elseif before and (input_of(id, found[6]) or '') ~= '' then
    run_again(id, fn, found[3], found[4])
  else -- of a flow that had the same id, or it never became ready
    redis.call('ZREM', ns .. 'dead:' .. fn, id)
    redis.call('ZREM', ns .. 'done:' .. fn, id)
    forget(id)
    add_step(flow, n, run)
  end
end

