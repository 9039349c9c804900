-- What follows from the end of a step.
local MOST_RESULT = 16000000 -- bytes of a group's result: to write one holds up the store
local AT_ONCE = 50 -- results read with one command

-- The result of a group all of whose children are decided, from theirs, which are needed no more; nil if it is too long.
local function compose(flow, group)
  local results, size, last = {}, 0, group.first + group.count - 1
  for from = group.first, last, AT_ONCE do
    local names = {}
    for n = from, math.min(last, from + AT_ONCE - 1) do
      names[#names + 1] = 'result:' .. n
    end
    read(flow, names)
    for _, name in ipairs(names) do
      results[#results + 1] = flow.known[name]
      size = size + #flow.known[name]
    end
    if size > MOST_RESULT then
      return nil
    end
  end
  for n = group.first, last do
    set(flow, 'result:' .. n, false)
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

local function drop_result(flow, n)
  local name = 'result:' .. n
  local known = flow.known[name]
  count(flow, 'bytes', -(known and #known or redis.call('HSTRLEN', flow.key, name)))
  set(flow, name, false)
end

local function failure_of(kind, message)
  return cjson.encode({type = kind, traceback = '', message = message})
end

local succeed, fail

-- All children of a group are decided.
local function end_group(flow, n)
  local result = compose(flow, node_of(flow, n))
  if result then
    return succeed(flow, n, result)
  end
  return fail(flow, n, {
    what = string.format('group %d of the flow', n), id = flow.id, state = 'failed', reason = 'bad result',
    output = failure_of('BadResult', string.format(
      'the results of its parts are more than %d bytes; keep them elsewhere and return where they are', MOST_RESULT
    ))
  })
end

-- A node has succeeded: its parent goes on, or has succeeded, too. result: nil for one that stands from an earlier round.
function succeed(flow, n, result)
  while true do
    local path = node_of(flow, n).path
    read(flow, path[1] and {'node:' .. path[1], 'left:' .. path[1]} or {})
    local above = path[1] and node_of(flow, path[1])
    set_state(flow, n, 'succeeded')
    if result then
      keep_result(flow, n, result)
    end
    if not above then
      return
    end
    if above.kind == 'chain' then
      if result and n > above.first then
        drop_result(flow, n - 1) -- what came of it stands
      end
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
      return end_group(flow, path[1])
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

-- A step, or a group, has not succeeded: the nearest collecting group takes that as the outcome of its child, else the flow
-- fails.
function fail(flow, n, step)
  local child = n
  for _, above in ipairs(node_of(flow, n).path) do
    if node_of(flow, above).collect then
      break
    end
    child = above
  end
  local reason = step.reason == '' and step.state or step.reason
  local said = message_of(step.output, reason)
  if child == 0 then
    local how = step.state == 'failed' and 'failed: ' .. said or 'was cancelled'
    local what = step.what or string.format('step %d of the flow (%s, run %s)', n, step.fn, step.id)
    return stop_flow(flow, step.state, reason, failure_of('StepFailed', what .. ' ' .. how))
  end
  set_state(flow, child, step.state)
  set(flow, 'result:' .. child, cjson.encode({
    state = step.state, reason = reason, error = said, run_id = step.id
  }))
  if child ~= n then
    count(flow, 'stops', 1)
    push(flow, 'stop', child, 0)
  end
  local group = node_of(flow, child).path[1]
  count(flow, 'left:' .. group, -1)
  if flow.known['left:' .. group] == 0 then
    end_group(flow, group)
  end
end

local function end_step(step)
  local id, n = place_of(step.flow)
  local flow = flow_of(id, n)
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
    return
  end
  count(flow, 'bytes', #step.output)
  local large = flow.known.bytes > MOST_BYTES
  if not large and not is_stopped(flow, n) then
    return succeed(flow, n, step.output)
  end
  set_state(flow, n, 'succeeded') -- for a redrive
  keep_result(flow, n, step.output)
  if large and not is_bad(state_of(flow, 0)) then
    stop_flow(flow, 'failed', 'bad result', failure_of('BadResult', string.format(
      'the results of its steps are more than %d bytes, with step %d (%s, run %s); keep them elsewhere and return where '
      .. 'they are', MOST_BYTES, n, step.fn, step.id
    )))
  end
end

