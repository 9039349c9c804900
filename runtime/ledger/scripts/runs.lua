-- How runs begin and end. Behind common.lua, in scripts that begin or end some.
local ALONE = 3 -- crashes of a process of its own, after which a run is given up
local LOST = 20 -- workers lost meanwhile, after which it is given up, too
local CHILDREN_KEPT = 32 * 86400000
local LINKS = 10 -- on_failure functions of on_failure functions ...
local TRIM = 100 -- runs removed at a time
local MARGIN = 0.005 -- by how much of its number a list may be too long, so that it is trimmed now and then

-- The run of a flow has a function that nobody can call; that of a step has the field `flow`: its number:the flow's id.
local function is_flow(fn)
  return string.sub(fn, 1, 5) == 'flow:'
end

local function place_of(flow)
  local step, id = string.match(flow, '^(%d+):(.*)$')
  return id, tonumber(step)
end

local function is_open(state)
  return state and state ~= 'succeeded' and state ~= 'failed' and state ~= 'cancelled'
end

local function forget(id)
  redis.call('UNLINK', ns .. 'children:' .. id, ns .. 'flow:' .. id, keys_of(id))
end

-- Whether the flow that a step is of goes on: it may run the step again.
local function is_needed(flow)
  return is_open(redis.call('HGET', ns .. 'run:' .. place_of(flow), 'state'))
end

-- Bound the lists of finished runs by age, that of good ones by number, too. An id may have come back since: only the
-- run that an entry was made for is forgotten.
local function trim(list, kind, size)
  local more = redis.call('ZCOUNT', list, '-inf', '(' .. now - KEEP[kind] + 1) -- scores have fractions of a ms
  if kind == 'done' then
    more = math.max(more, size - KEEP_COUNT)
  end
  more = math.min(more, TRIM)
  if more > 0 then
    local found = redis.call('ZRANGE', list, 0, more - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      local run = redis.call('HMGET', ns .. 'run:' .. found[i], 'finished', 'flow')
      if tonumber(run[1] or 0) == math.floor(found[i + 1]) and not (run[2] and is_needed(run[2])) then
        forget(found[i])
      end
    end
    redis.call('ZREMRANGEBYRANK', list, 0, more - 1)
  end
end

local kept = {}
local function list_finished(id, fn, kind)
  local list, place = ns .. kind .. ':' .. fn, stamp()
  redis.call('ZADD', list, place, id)
  if not kept[list] then -- each time, not when it is trimmed alone: it stays for as long as the youngest in it
    kept[list] = true
    redis.call('PEXPIRE', list, KEEP[kind])
  end
  local size = redis.call('ZCARD', list)
  if size < 100 or last % 64 == 0 or (kind == 'done' and size > KEEP_COUNT * (1 + MARGIN)) then
    trim(list, kind, size)
  end
end

-- How many runs of a queue are open. Counted once a script.
local counts = {}
local function open_in(q)
  if not counts[q] then
    counts[q] = 0
    for _, kind in ipairs({'ready:', 'due:', 'leases:', 'unknown:'}) do
      counts[q] = counts[q] + redis.call('ZCARD', ns .. kind .. q)
    end
  end
  return counts[q]
end

-- Write the record of a run that there is not yet. run: id fn q prio trigger, and what else is known of due (ms) age parent
-- trace. state: if it is not for later. extra: further fields of its hash and their values. Whether it is for later.
local function record(run, state, extra)
  local due = tonumber(run.due or '')
  local later = due and due > now
  local fields = {
    'fn', run.fn, 'q', run.q, 'prio', run.prio, 'trigger', run.trigger, 'token', 0, 'accepted', now,
    'due', later and run.due or now, 'state', later and 'scheduled' or state, unpack(extra or {})
  }
  if run.age and run.age ~= '' then
    fields[#fields + 1] = 'expires'
    fields[#fields + 1] = (later and due or now) + run.age
  end
  if run.trace and run.trace ~= '' then
    fields[#fields + 1] = 'trace'
    fields[#fields + 1] = run.trace
  end
  if run.parent and run.parent ~= '' then
    fields[#fields + 1] = 'parent'
    fields[#fields + 1] = run.parent
    local children = ns .. 'children:' .. run.parent
    redis.call('SADD', children, run.id)
    redis.call('PEXPIRE', children, CHILDREN_KEPT)
  end
  redis.call('HSET', ns .. 'run:' .. run.id, unpack(fields))
  add_name('functions', run.fn)
  redis.call('ZADD', ns .. 'open:' .. run.fn, stamp(), run.id)
  return later
end

-- A new run, in its place in its queue. run: as of record, and payload.
local function add_run(run, extra)
  if counts[run.q] then
    counts[run.q] = counts[run.q] + 1
  end
  local later = record(run, 'queued', extra)
  redis.call('SET', ns .. 'in:' .. run.id, run.payload)
  add_name('queues', run.q)
  if later then
    redis.call('ZADD', ns .. 'due:' .. run.q, run.due, run.id)
  else
    make_ready(run.id, run.q, tonumber(run.prio))
  end
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

-- Accept the submission whose fields begin at ARGV[at]: what became of it, and the id of the run there is.
local SUBMISSION = 13
local function accept(at)
  local id, fn, q, payload, trigger, prio = unpack(ARGV, at, at + 5)
  local due, age, dedupe, window, parent, trace, most = unpack(ARGV, at + 6, at + 12)
  local known = known_as(id, fn, dedupe)
  if known then
    return 'known', known
  elseif tonumber(most) > 0 and open_in(q) >= tonumber(most) then
    return 'full', id
  end
  remember(id, fn, dedupe, window)
  add_run({
    id = id, fn = fn, q = q, payload = payload, trigger = trigger, prio = prio, due = due_of(due), age = age,
    parent = parent, trace = trace
  })
  return 'accepted', id
end

-- A payload as it can stand in JSON: what is none (somebody else's message, say) is null.
local function as_json(payload)
  local strange = string.gsub(payload, '[%z\1-\127\194-\244][\128-\191]*', '')
  return strange == '' and pcall(cjson.decode, payload) and payload or 'null'
end

-- What a failure (JSON) says, for others to read.
local function message_of(failure, reason)
  local _, told = pcall(cjson.decode, failure)
  return type(told) == 'table' and told.message or reason
end

-- A run that failed for good starts the function that its own names with on_failure=, if there is one.
local function start_on_failure(id, fn, reason, failure)
  local named = redis.call('HGET', ns .. 'on_failure', fn)
  if not named then
    return
  end
  local target, q = unpack(cjson.decode(named))
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'redriven', 'links', 'trace')
  local links = tonumber(found[2] or 0) + 1
  local another = id .. '-failed' .. (found[1] or '')
  if links > LINKS or redis.call('EXISTS', ns .. 'run:' .. another) == 1 then
    return
  end
  local text = cjson.encode({run_id = id, ['function'] = fn, reason = reason, error = message_of(failure, reason)})
  local payload = as_json(redis.call('GET', ns .. 'in:' .. id) or '')
  add_run({
    id = another, fn = target, q = q, prio = 5, trigger = 'on_failure', parent = id, trace = found[3] or '',
    payload = string.sub(text, 1, -2) .. ',"arguments":' .. payload .. '}'
  }, {'links', links})
end

-- The steps that have ended, for go_on of flows.lua.
local ended = {}

-- The run is over. output: its result, or why it failed, as JSON; '' for none. flow: that field of its hash. A script that
-- may close a step calls go_on at its end.
local function close(id, fn, state, reason, output, flow)
  local run, input, place, log = keys_of(id)
  local kind = state == 'failed' and 'dead' or 'done'
  redis.call('HSET', run, 'state', state, 'finished', now)
  if reason ~= '' then
    redis.call('HSET', run, 'reason', reason)
  end
  if state == 'cancelled' then
    redis.call('HDEL', run, 'cancel')
  end
  if output ~= '' then
    redis.call('SET', place, output, 'PX', KEEP[kind])
  elseif state == 'succeeded' then
    redis.call('DEL', place)
  else
    redis.call('PEXPIRE', place, KEEP[kind])
  end
  redis.call('PEXPIRE', run, KEEP[kind])
  redis.call('PEXPIRE', input, KEEP[kind])
  redis.call('PEXPIRE', log, KEEP[kind])
  redis.call('ZREM', ns .. 'open:' .. fn, id)
  list_finished(id, fn, kind)
  if state == 'failed' then
    start_on_failure(id, fn, reason, output)
  end
  redis.call('PUBLISH', ns .. 'done:' .. id, state)
  if flow then
    ended[#ended + 1] = {id = id, fn = fn, state = state, reason = reason, output = output, flow = flow}
  end
end

-- An attempt that did not succeed. Of one that did, the run itself says all.
local ATTEMPTS = 20
local function note_attempt(id, entry)
  local log = ns .. 'log:' .. id
  if redis.call('RPUSH', log, entry) > ATTEMPTS then
    redis.call('LTRIM', log, -ATTEMPTS, -1)
  end
end

-- The process that a run had to itself has died, or a worker with it (`lost`). With the worker it is told against the run
-- once: from then on the run is alone, and others are as likely to blame. Whether it is given up.
local function note_crash(id, fn, lost, flow)
  local run = keys_of(id)
  local crashes = tonumber(redis.call('HGET', run, 'crashes') or 0)
  local losses = 0
  if lost and crashes > 0 then
    losses = redis.call('HINCRBY', run, 'losses', 1)
  else
    crashes = redis.call('HINCRBY', run, 'crashes', 1)
  end
  if crashes <= ALONE and losses <= LOST then
    return false
  end
  local message = 'the process that ran it died ' .. string.format('%d', crashes) .. ' times'
  if losses > 0 then
    message = message .. ', and its worker ' .. string.format('%d', losses) .. ' times'
  end
  close(id, fn, 'failed', 'crashed', cjson.encode({type = 'Crashed', traceback = '', message = message}), flow)
  return true
end

-- A run that is at work goes back to its queue, as if it had not been claimed. Whether it is there.
local function hand_back(id, q)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'fn', 'prio', 'cancel', 'flow')
  redis.call('ZREM', ns .. 'leases:' .. q, id)
  if found[3] then
    close(id, found[1], 'cancelled', 'cancelled', '', found[4])
    return false
  end
  redis.call('HSET', run, 'state', 'queued', 'token', new_token()) -- whoever still runs it may not finish it
  make_ready(id, q, tonumber(found[2]), true)
  return true
end

-- Have an open run end: at once if it waits; else its worker hears of it at its next beat.
local function stop_run(id, state, fn, q, flow)
  if state == 'running' then
    redis.call('HSET', ns .. 'run:' .. id, 'cancel', 1)
    return 'cancelling'
  end
  redis.call('ZREM', ns .. 'ready:' .. q, id)
  redis.call('ZREM', ns .. 'due:' .. q, id)
  leave_wait(id, q, fn)
  close(id, fn, 'cancelled', 'cancelled', '', flow)
  return 'cancelled'
end

-- A finished run is open again: its record, without its end. state: the new one.
local function reopen(id, fn, state)
  local run, input, output, log, progress = keys_of(id)
  redis.call('ZREM', ns .. 'dead:' .. fn, id)
  redis.call('ZREM', ns .. 'done:' .. fn, id)
  redis.call('HDEL', run, 'reason', 'finished', 'failures', 'crashes', 'losses', 'expires', 'first')
  redis.call('HSET', run, 'state', state, 'due', now)
  redis.call('HINCRBY', run, 'redriven', 1)
  redis.call('DEL', output, progress)
  redis.call('PERSIST', run)
  redis.call('PERSIST', input)
  redis.call('PERSIST', log)
  redis.call('ZADD', ns .. 'open:' .. fn, stamp(), id)
end

-- Run a finished run again, with the payload it had.
local function run_again(id, fn, q, prio)
  reopen(id, fn, 'queued')
  make_ready(id, q, tonumber(prio))
end
