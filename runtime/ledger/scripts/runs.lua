-- How runs begin.
local CHILDREN_KEPT = 32 * 86400000

local counts = {} -- how many runs of a queue are open, where that was asked

-- A script that makes many runs gathers what it adds, for one command a key: it begins with gather(), and ends with
-- write_gathered().
local gathered, inputs

local function gather()
  gathered, inputs = {}, {}
end

local function put(key, score, id)
  if not gathered then
    redis.call('ZADD', key, score, id)
    return
  end
  local values = gathered[key]
  if not values then
    values = {}
    gathered[key] = values
  end
  local count = #values
  values[count + 1] = score
  values[count + 2] = id
end

local function put_input(id, payload)
  if #payload <= SHORT then
    return -- it is in the record
  elseif not gathered then
    redis.call('SET', ns .. 'in:' .. id, payload)
    return
  end
  local count = #inputs
  inputs[count + 1] = ns .. 'in:' .. id
  inputs[count + 2] = payload
end

local function write_gathered()
  for key, values in pairs(gathered) do
    send_all('ZADD', key, values)
  end
  for at = 1, #inputs, PIECE do
    redis.call('MSET', unpack(inputs, at, math.min(#inputs, at + PIECE - 1)))
  end
end

-- Write the record of a run that there is not yet. run: id fn q prio trigger, and what else is known of due (ms) age parent
-- trace key payload. state: if it is not for later. extra: further fields of its hash and their values. Whether it is for later.
local function record(run, state, extra)
  local due = tonumber(run.due or '')
  local later = due and due > now
  local more = extra or {}
  if run.payload and #run.payload <= SHORT then
    more[#more + 1] = 'in'
    more[#more + 1] = run.payload
  end
  if run.age and run.age ~= '' then
    more[#more + 1] = 'expires'
    more[#more + 1] = (later and due or now) + run.age
  end
  if run.key then
    more[#more + 1] = 'key'
    more[#more + 1] = run.key
  end
  if run.trace and run.trace ~= '' then
    more[#more + 1] = 'trace'
    more[#more + 1] = run.trace
  end
  if run.parent and run.parent ~= '' then
    more[#more + 1] = 'parent'
    more[#more + 1] = run.parent
    local children = ns .. 'children:' .. run.parent
    redis.call('SADD', children, run.id)
    redis.call('PEXPIRE', children, CHILDREN_KEPT)
  end
  redis.call(
    'HSET', ns .. 'run:' .. run.id, 'fn', run.fn, 'q', run.q, 'prio', run.prio, 'trigger', run.trigger, 'token', 0,
    'accepted', now, 'due', later and run.due or now, 'state', later and 'scheduled' or state, unpack(more)
  )
  add_name('functions', run.fn)
  put(ns .. 'open:' .. run.fn, stamp(), run.id)
  return later
end

-- A new run, in its place in its queue. run: as of record, and payload. held: it waits elsewhere, for something else.
local function add_run(run, extra, held)
  if counts[run.q] then
    counts[run.q] = counts[run.q] + 1
  end
  local later = record(run, held and 'scheduled' or 'queued', extra)
  put_input(run.id, run.payload)
  add_name('queues', run.q)
  if held then
    return
  elseif later then
    put(ns .. 'due:' .. run.q, run.due, run.id)
  else
    local place = urgency(tonumber(run.prio))
    put(ns .. 'ready:' .. run.q, place, run.id)
    if run.key then
      lanes().join(lanes().of(run.q, run.prio, run.fn), run.fn, run.key, run.id, place)
    end
    ring(run.q)
  end
end
