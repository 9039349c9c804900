-- Flows: how the end of one step begins, or ends, others. Behind runs.lua.
--
-- flow:{id}  hash, there as long as the flow's run:
--   node:{n}    JSON: kind first count collect fn q prio delay age (ms) pieces, as in flows/nodes.py; path: what is above the
--               node, nearest first; levels: of what a collecting group may stop, where each level below it begins and ends
--   state:{n}   open (a step), begun (a chain, a group); succeeded; failed, cancelled. With the round it is of, all but
--               succeeded: what did not succeed in an earlier round has not begun
--   result:{n}  JSON; of a child of a collecting group, its outcome
--   left:{n}    of a group: how many children are not decided
--   size steps open succeeded failed cancelled   how many nodes, steps, and steps in these states
--   round stops reason error trace payload_max fn   times it was begun, what was stopped since, why the flow failed, ...
-- flows      sorted set of what is left to be done, by ms: round:what:node:from:flow
--
-- A script notes ends of steps (close), and at its own end does what follows from them (go_on): so much at most, the rest is
-- left to the reaper. What is read of a flow is read once a script, and what is changed is written at its end.
local MOST_STEPS = 100 -- started or stopped by one script
local MOST_NODES = 2000 -- looked at by one script
local CHUNK = 500 -- values of one command: Lua's stack holds some thousands

local BASE = {'size', 'open', 'succeeded', 'failed', 'cancelled', 'round', 'over', 'stops', 'fn', 'trace', 'payload_max'}

-- Read fields of a flow that are not known yet. Those that are not there are false.
local function read(flow, names)
  for from = 1, #names, CHUNK do
    local missing = {}
    for at = from, math.min(#names, from + CHUNK - 1) do
      if flow.known[names[at]] == nil then
        missing[#missing + 1] = names[at]
      end
    end
    if #missing > 0 then
      for at, value in ipairs(redis.call('HMGET', flow.key, unpack(missing))) do
        flow.known[missing[at]] = value
      end
    end
  end
end

local function get(flow, name)
  read(flow, {name})
  return flow.known[name]
end

-- value: false to have the field no more.
local function set(flow, name, value)
  flow.known[name] = value
  flow.changed[name] = true
end

local function count(flow, name, more)
  set(flow, name, tonumber(get(flow, name) or 0) + more)
end

-- A flow by its id; nil if there is none.
local flows, seen = {}, {}
local function flow_of(id)
  local flow = flows[id]
  if not flow then
    flow = {id = id, key = ns .. 'flow:' .. id, known = {}, changed = {}, nodes = {}}
    read(flow, BASE)
    flows[id] = flow
    seen[#seen + 1] = flow
  end
  return flow.known.size and flow
end

local function write(flow)
  local pairs_, gone = {}, {}
  local function send(command, values, least)
    if #values > least then
      redis.call(command, flow.key, unpack(values))
      return {}
    end
    return values
  end
  for name in pairs(flow.changed) do
    if flow.known[name] then
      pairs_[#pairs_ + 1] = name
      pairs_[#pairs_ + 1] = flow.known[name]
      pairs_ = send('HSET', pairs_, CHUNK)
    else
      gone[#gone + 1] = name
      gone = send('HDEL', gone, CHUNK)
    end
  end
  send('HSET', pairs_, 0)
  send('HDEL', gone, 0)
  flow.changed = {}
end

local function node_of(flow, n)
  local node = flow.nodes[n]
  if not node then
    node = cjson.decode(get(flow, 'node:' .. n))
    flow.nodes[n] = node
  end
  return node
end

-- nil if it has not begun in this round.
local function state_of(flow, n)
  local text = get(flow, 'state:' .. n)
  if not text or text == 'succeeded' then
    return text or nil
  end
  local round, state = string.match(text, '^(%d+):(.*)$')
  return round == flow.known.round and state or nil
end

local function set_state(flow, n, state)
  set(flow, 'state:' .. n, state == 'succeeded' and state or flow.known.round .. ':' .. state)
end

local function is_bad(state)
  return state == 'failed' or state == 'cancelled'
end

-- Whether a node is not to begin, or to end, since something above it has failed.
local function is_stopped(flow, n)
  if not flow.known.stops then
    return false
  end
  for _, above in ipairs(node_of(flow, n).path) do
    if is_bad(state_of(flow, above)) then
      return true
    end
  end
  return false
end

-- What is to be done: the last first, so that the order of steps is that of the flow.
local work = {}
local function push(flow, what, n, from)
  work[#work + 1] = {flow = flow, what = what, n = n, from = from}
end

local function text_of(op)
  return string.format('%s:%s:%d:%d:%s', op.flow.known.round, op.what, op.n, op.from, op.flow.id)
end

-- The result of a group all of whose children are decided, from theirs, which are needed no more.
local function compose(flow, group)
  local names, results = {}, {}
  for n = group.first, group.first + group.count - 1 do
    names[#names + 1] = 'result:' .. n
  end
  read(flow, names)
  for at, name in ipairs(names) do
    results[at] = flow.known[name]
    set(flow, name, false)
  end
  return '[' .. table.concat(results, ',') .. ']'
end

-- In a collecting group it is an outcome.
local function keep_result(flow, n, result)
  local above = node_of(flow, n).path[1]
  if above and node_of(flow, above).collect then
    result = '{"state":"succeeded","result":' .. result .. '}'
  end
  set(flow, 'result:' .. n, result)
end

-- A node has succeeded: its parent goes on, or has succeeded, too. result: nil for one that stands from an earlier round.
local function succeed(flow, n, result)
  while true do
    local path = node_of(flow, n).path
    local above = path[1] and node_of(flow, path[1])
    set_state(flow, n, 'succeeded')
    if result then
      keep_result(flow, n, result)
    end
    if not above then
      return
    end
    if above.kind == 'chain' then
      if n + 1 < above.first + above.count then
        return push(flow, 'start', n + 1, 0)
      end
      result = get(flow, 'result:' .. n)
      set(flow, 'result:' .. n, false)
    else
      local left = 'left:' .. path[1]
      count(flow, left, -1)
      if flow.known[left] > 0 then
        return
      end
      result = compose(flow, above)
    end
    n = path[1]
  end
end

-- The whole flow ends so, as soon as its open steps have.
local function stop_flow(flow, state, reason, failure)
  set_state(flow, 0, state)
  set(flow, 'reason', reason)
  set(flow, 'error', failure)
  count(flow, 'stops', 1)
  push(flow, 'stop', 0, 1)
end

-- A step has not succeeded: the nearest collecting group takes that as the outcome of its child, else the flow fails.
local function fail(flow, n, step)
  local child = n
  for _, above in ipairs(node_of(flow, n).path) do
    if node_of(flow, above).collect then
      break
    end
    child = above
  end
  local said = message_of(step.output, step.reason)
  if child == 0 then
    local message = string.format(
      'step %d of the flow (%s, run %s) %s: %s', n, step.fn, step.id, step.state == 'failed' and 'failed' or 'was', said
    )
    local failure = cjson.encode({type = 'StepFailed', traceback = '', message = message})
    return stop_flow(flow, step.state, step.reason, failure)
  end
  set_state(flow, child, step.state)
  set(flow, 'result:' .. child, cjson.encode({
    state = step.state, reason = step.reason, error = said, run_id = step.id
  }))
  if child ~= n then
    count(flow, 'stops', 1)
    push(flow, 'stop', child, 0)
  end
  local group = node_of(flow, child).path[1]
  count(flow, 'left:' .. group, -1)
  if flow.known['left:' .. group] == 0 then
    succeed(flow, group, compose(flow, node_of(flow, group)))
  end
end

local function end_step(step)
  local id, n = place_of(step.flow)
  local flow = flow_of(id)
  if not flow or state_of(flow, n) ~= 'open' then
    return
  end
  count(flow, 'open', -1)
  count(flow, step.state, 1)
  if step.state ~= 'succeeded' then
    set_state(flow, n, step.state)
    if not is_stopped(flow, n) then
      fail(flow, n, step)
    end
  elseif is_stopped(flow, n) then -- for a redrive
    set_state(flow, n, 'succeeded')
    keep_result(flow, n, step.output)
  else
    succeed(flow, n, step.output)
  end
end

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

-- A step's arguments, with the last result where it is to stand.
local function payload_of(flow, n)
  local pieces = node_of(flow, n).pieces
  return #pieces == 1 and pieces[1] or table.concat(pieces, previous(flow, n))
end

local function failure_of(kind, message)
  return cjson.encode({type = kind, traceback = '', message = message})
end

local function add_step(flow, n, run)
  local node, limit = node_of(flow, n), tonumber(flow.known.payload_max or 0)
  local payload = payload_of(flow, n)
  local size = #payload
  local large = limit > 0 and size > limit
  local extra = {'flow', run.flow}
  if flow.known.round ~= '0' then
    extra = {'flow', run.flow, 'redriven', flow.known.round}
  end
  add_run({
    id = run.id, fn = node.fn, q = node.q, prio = node.prio, trigger = 'flow', payload = large and '' or payload,
    due = not large and node.delay and string.format('%d', now + node.delay), age = node.age, parent = flow.id,
    trace = flow.known.trace
  }, extra)
  if large then
    redis.call('ZREM', ns .. 'ready:' .. node.q, run.id)
    close(run.id, node.fn, 'failed', 'bad arguments', failure_of('InputError', string.format(
      'the arguments of %s are %d bytes with the last result in them, and more than %d are not taken', node.fn, size, limit
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
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'fn', 'q', 'prio', 'flow')
  local state, fn = found[1], found[2]
  if not state then
    return add_step(flow, n, run)
  elseif is_open(state) or found[5] ~= run.flow then
    run.state, run.reason = 'failed', 'error'
    run.output = failure_of('SubmitError', 'there is another run ' .. id)
    ended[#ended + 1] = run
  elseif before and redis.call('STRLEN', ns .. 'in:' .. id) > 0 then
    run_again(id, fn, found[3], found[4])
  else -- of a flow that had the same id, or it never became ready
    redis.call('ZREM', ns .. 'dead:' .. fn, id)
    redis.call('ZREM', ns .. 'done:' .. fn, id)
    forget(id)
    add_step(flow, n, run)
  end
end

local steps_left, nodes_left = MOST_STEPS, MOST_NODES
local function has_budget()
  return steps_left > 0 and nodes_left > 0
end

local DO = {}

-- A node begins: a step, the first child of a chain, all of a group.
function DO.start(op)
  local flow, n = op.flow, op.n
  nodes_left = nodes_left - 1
  local state = state_of(flow, n)
  if is_stopped(flow, n) or (state and state ~= 'succeeded') then
    return
  elseif state then -- in an earlier round
    return succeed(flow, n)
  end
  local node = node_of(flow, n)
  if n == 0 then
    redis.call('HSET', ns .. 'run:' .. flow.id, 'state', 'running')
  end
  if node.kind == 'step' then
    steps_left = steps_left - 1
    start_step(flow, n)
  elseif node.count == 0 then
    succeed(flow, n, '[]')
  else
    set_state(flow, n, 'begun')
    if node.kind == 'chain' then
      push(flow, 'start', node.first, 0)
    else
      set(flow, 'left:' .. n, node.count)
      push(flow, 'each', n, 0)
    end
  end
end

-- Read what is said of nodes, some at a time.
local function look_ahead(flow, n, last, ...)
  if n % 100 == 0 or flow.known['state:' .. n] == nil then
    local names = {}
    for at = n, math.min(n + 99, last) do
      for _, kind in ipairs({...}) do
        names[#names + 1] = kind .. at
      end
    end
    read(flow, names)
  end
end

-- The children of a group begin, from one on.
function DO.each(op)
  local flow, node = op.flow, node_of(op.flow, op.n)
  block = math.max(1, math.min(2 * (node.count - op.from), 2 * steps_left))
  look_ahead(flow, node.first + op.from, node.first + node.count - 1, 'node:', 'state:')
  if op.from + 1 < node.count then
    push(flow, 'each', op.n, op.from + 1)
  end
  push(flow, 'start', node.first + op.from, 0)
end

-- The open steps of a node that has failed end, from one of its flow's on.
function DO.stop(op)
  local flow = op.flow
  local levels = op.n == 0 and {{1, flow.known.size - 1}} or node_of(flow, op.n).levels
  for _, level in ipairs(levels) do
    for n = math.max(op.from, level[1]), level[2] do
      if not has_budget() then
        return push(flow, 'stop', op.n, n)
      end
      nodes_left = nodes_left - 1
      look_ahead(flow, n, level[2], 'state:')
      if state_of(flow, n) == 'open' then
        local id = flow.id .. '-' .. n
        local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'fn', 'q', 'flow', 'cancel')
        if is_open(found[1]) and not found[5] then
          steps_left = steps_left - 1
          stop_run(id, unpack(found, 1, 4))
        end
      end
    end
  end
end

-- The run of a flow ends once its root is decided and none of its steps is open.
local function close_flow(flow)
  local state = state_of(flow, 0)
  if flow.known.over or not state or state == 'begun' or tonumber(flow.known.open) > 0 then
    return
  end
  set(flow, 'over', now)
  if state == 'succeeded' then
    local result = get(flow, 'result:0')
    set(flow, 'result:0', false)
    close(flow.id, flow.known.fn, state, '', result)
  else
    close(flow.id, flow.known.fn, state, get(flow, 'reason'), get(flow, 'error') or '')
  end
  redis.call('PEXPIRE', flow.key, KEEP[state == 'failed' and 'dead' or 'done'])
end

-- Do what follows from the ends of steps, all of it; then what is left to be done, as much as one script does.
local function go_on()
  while #ended > 0 or (#work > 0 and has_budget()) do
    if #ended > 0 then
      end_step(table.remove(ended, 1))
    else
      local op = table.remove(work)
      DO[op.what](op)
    end
  end
  for at, op in ipairs(work) do
    redis.call('ZADD', ns .. 'flows', now - at / 1024, text_of(op))
  end
  work = {}
  for _, flow in ipairs(seen) do
    if flow.known.size then
      close_flow(flow)
      write(flow)
    end
  end
end

-- Do some of what is left to be done. How much of that there was.
local function go_on_with_flows()
  local done = 0
  while has_budget() do
    local text = redis.call('ZRANGEBYSCORE', ns .. 'flows', '-inf', now, 'LIMIT', 0, 1)[1]
    if not text then
      break
    end
    redis.call('ZREM', ns .. 'flows', text)
    done = done + 1
    local round, what, n, from, id = string.match(text, '^(%d+):(%a+):(%d+):(%d+):(.*)$')
    local flow = flow_of(id)
    if flow and flow.known.round == round and not flow.known.over then
      push(flow, what, tonumber(n), tonumber(from))
      go_on()
    end
  end
  return done
end

-- due: ms, or false for now.
local function begin_flow(id, due)
  push(flow_of(id), 'start', 0, 0)
  if due then
    redis.call('ZADD', ns .. 'flows', due, text_of(table.remove(work)))
  end
  go_on()
end

-- Whether a step that is about to be given to a worker is not to run any more.
local function is_step_stopped(place)
  local id, n = place_of(place)
  local flow = flow_of(id)
  return flow and is_stopped(flow, n)
end

local function cancel_flow(id)
  local flow = flow_of(id)
  local state = state_of(flow, 0)
  if not state or state == 'begun' then
    redis.call('HSET', ns .. 'run:' .. id, 'cancel', 1)
    redis.call('ZREM', ns .. 'flows', text_of({flow = flow, what = 'start', n = 0, from = 0})) -- it may not have begun
    stop_flow(flow, 'cancelled', 'cancelled', '')
    go_on()
  end
  return flow.known.over and 'cancelled' or 'cancelling'
end

-- What has succeeded stands; all else begins again.
local function redrive_flow(id, fn)
  local flow = flow_of(id)
  if not flow then
    return 'unknown'
  end
  set(flow, 'round', string.format('%d', flow.known.round + 1))
  for _, name in ipairs({'over', 'stops', 'reason', 'error'}) do
    set(flow, name, false)
  end
  reopen(id, fn, 'running')
  redis.call('PERSIST', flow.key)
  push(flow, 'start', 0, 0)
  go_on()
  return 'queued'
end
