-- Which runs are accepted. Behind runs.lua.

-- How many runs of a queue are open. Counted once a script.
local function open_in(q)
  if not counts[q] then
    counts[q] = 0
    for _, kind in ipairs({'ready:', 'due:', 'leases:', 'unknown:', 'limited:'}) do
      local key = ns .. kind .. q
      counts[q] = counts[q] + redis.call('ZCARD', key) + (gathered and gathered[key] and #gathered[key] / 2 or 0)
    end
  end
  return counts[q]
end

-- The run that makes one that is to be accepted a known one: of that id, or the first of its function that said the same.
local function known_as(id, fn, dedupe)
  if redis.call('EXISTS', ns .. 'run:' .. id) == 1 then
    return id
  end
  if dedupe ~= '' then
    local over, first = string.match(redis.call('GET', key_of_two('dedupe:', fn, dedupe)) or '', '^(%d+) (.*)$')
    return over and tonumber(over) > now and first
  end
end

local function remember(id, fn, dedupe, window)
  if dedupe ~= '' then
    local value = string.format('%d ', now + window) .. id
    redis.call('SET', key_of_two('dedupe:', fn, dedupe), value, 'PX', window + SLACK)
  end
end

-- When a run is due, in ms; '' for now. due: the same, or with a + from now on.
local function due_of(due)
  return string.sub(due, 1, 1) == '+' and string.format('%d', now + tonumber(string.sub(due, 2))) or due
end

-- Further fields of a run that somebody is to be told of the end of. url: '' for none.
local function with_callback(url)
  if url ~= '' then
    redis.call('SET', ns .. 'callbacks_used', 1)
    return {'callback', url}
  end
end

-- Accept a submission, a list of 15 texts as MessagePack: what became of it, and the id of the run there is.
local function accept(submission)
  local fields = cmsgpack.unpack(submission)
  local id, fn, q, payload, trigger, prio = unpack(fields, 1, 6)
  local due, age, dedupe, window, parent, trace, most, key, callback = unpack(fields, 7, 15)
  local known = known_as(id, fn, dedupe)
  if known then
    return 'known', known
  elseif tonumber(most) > 0 and open_in(q) >= tonumber(most) then
    return 'full', id
  end
  remember(id, fn, dedupe, window)
  add_run({
    id = id, fn = fn, q = q, payload = payload, trigger = trigger, prio = prio, due = due_of(due), age = age,
    parent = parent, trace = trace, key = key ~= '' and key
  }, with_callback(callback))
  return 'accepted', id
end
