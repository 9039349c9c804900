-- How nodes begin, and are stopped.
local DO = {}

-- A node begins: a step, the first child of a chain, all of a group.
function DO.start(op)
  local flow, n = op.flow, op.n
  nodes_left = nodes_left - 1
  read(flow, {'node:' .. n, 'state:' .. n})
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
  if flow.known['state:' .. n] == nil then
    local names = {}
    for at = n, math.min(n + MOST_STEPS - 1, last) do
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
  local child, last = node.first + op.from, node.first + node.count - 1
  look_ahead(flow, child, last, 'node:', 'state:')
  if not is_stopped(flow, child) then
    block = 2 * math.max(1, math.min(last - child + 1, steps_left))
    if child < last then
      push(flow, 'each', op.n, op.from + 1)
    end
    push(flow, 'start', child, 0)
  end
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
  for _, flow in ipairs(touched) do
    close_flow(flow)
    write(flow)
  end
  touched = {}
end

-- Do some of what is left to be done, of which some is for flows that are over. How much of that there was.
local function go_on_with_rest()
  local done = 0
  while has_budget() and done < MOST_STEPS do
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
local function begin(id, due)
  push(flow_of(id), 'start', 0, 0)
  if due then
    redis.call('ZADD', ns .. 'flows', due, text_of(table.remove(work)))
  end
  go_on()
end

local function is_step_stopped(id, n)
  local flow = flow_of(id)
  return flow and is_stopped(flow, n)
end

local function cancel(id)
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
local function redrive(id, fn)
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
