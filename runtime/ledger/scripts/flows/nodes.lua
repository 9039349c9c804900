-- What is known of a flow: its hash.
local MOST_STEPS = 100 -- started or stopped by one script
local MOST_NODES = 2000 -- looked at by one script
local MOST_BYTES = 64e6 -- of the results of a flow's steps: they are joined in one script
local STEP_BYTES = 50000 -- of arguments written: so many are as much work as a step
local CHUNK = 500 -- values of one command: Lua's stack holds some thousands

local BASE = {'size', 'open', 'succeeded', 'failed', 'cancelled', 'round', 'over', 'stops', 'fn', 'trace', 'payload_max', 'bytes'}

-- What this script may still do; the rest is left for later.
local steps_left, nodes_left = MOST_STEPS, MOST_NODES
local function has_budget()
  return steps_left > 0 and nodes_left > 0
end

local flows, touched = {}, {}

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
  if next(flow.changed) == nil then
    touched[#touched + 1] = flow
  end
  flow.known[name] = value
  flow.changed[name] = true
end

local function count(flow, name, more)
  set(flow, name, tonumber(get(flow, name) or 0) + more)
end

-- A flow by its id; nil if there is none. n: a node that will be asked for.
local function flow_of(id, n)
  local flow = flows[id]
  if not flow then
    flow = {id = id, key = ns .. 'flow:' .. id, known = {}, changed = {}, nodes = {}}
    local names = {unpack(BASE)}
    if n then
      names[#names + 1] = 'node:' .. n
      names[#names + 1] = 'state:' .. n
    end
    read(flow, names)
    flows[id] = flow
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

