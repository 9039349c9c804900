-- What every script begins with. ARGV: prefix of all keys, now in ms ("" for the server's clock), how long a good and
-- how long a failed run is kept (ms), how many finished ones a function keeps; then the script's own.
--
-- run:{id}    hash: fn q state prio trigger token failures crashes accepted due ...   (lasting while the run is open)
-- in:{id} out:{id} log:{id} progress:{id} children:{id}   payload, result or error, attempts, latest progress, ids
-- ready:{q} due:{q} leases:{q}   sorted sets of ids by urgency, by ms, by ms
-- wait:{q}:{fn} waiting:{q} unknown:{q}   ready runs a worker met that does not know their function; by urgency; which
--                                         functions have some; by ms of their end
-- open:{fn} done:{fn} dead:{fn}  sorted sets of ids, for lists
-- worker:{w}  set of the functions a worker knows; workers, known: sorted sets by ms of their end
local ns = ARGV[1]
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local KEEP = {done = tonumber(ARGV[3]), dead = tonumber(ARGV[4])}
local KEEP_COUNT = tonumber(ARGV[5])
local FIRST = 6
local PATIENCE = 600000 -- ms a run waits for a worker that knows its function
local ALONE = 3 -- crashes in a process of its own, after which a run is given up
local CHILDREN_KEPT = 32 * 86400000
local BELLS = 64
local TRIM = 20 -- runs removed at a time
local BAND = 1e13 -- a priority's part of the scores in a ready set; sums are exact to 9e15

-- A score for lists: by time, and in order within a millisecond.
local function stamp()
  return now + redis.call('INCR', ns .. 'seq') % 4096 / 4096
end

local function ring(q)
  local bell = ns .. 'bell:' .. q
  if redis.call('LLEN', bell) < BELLS then
    redis.call('LPUSH', bell, 1)
  end
end

-- first: before all others of its priority
local function make_ready(id, q, prio, first)
  local place = first and 0 or redis.call('INCR', ns .. 'seq')
  redis.call('ZADD', ns .. 'ready:' .. q, (9 - prio) * BAND + place, id)
  ring(q)
end

local function leave_wait(id, q, fn)
  local wait = ns .. 'wait:' .. q .. ':' .. fn
  redis.call('ZREM', wait, id)
  redis.call('ZREM', ns .. 'unknown:' .. q, id)
  if redis.call('EXISTS', wait) == 0 then
    redis.call('SREM', ns .. 'waiting:' .. q, fn)
  end
end

local function keys_of(id)
  return ns .. 'run:' .. id, ns .. 'in:' .. id, ns .. 'out:' .. id, ns .. 'log:' .. id, ns .. 'progress:' .. id
end

local function forget(id)
  redis.call('DEL', keys_of(id))
  redis.call('DEL', ns .. 'children:' .. id)
end

-- Bound the lists of finished runs by age, that of good ones by number, too.
local function trim(list, kind)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now - KEEP[kind])
  local more = kind == 'done' and math.min(redis.call('ZCARD', list) - KEEP_COUNT, TRIM) or 0
  if more > 0 then
    for _, id in ipairs(redis.call('ZRANGE', list, 0, more - 1)) do
      forget(id)
    end
    redis.call('ZREMRANGEBYRANK', list, 0, more - 1)
  end
  redis.call('PEXPIRE', list, KEEP[kind])
end

-- Accept the submission whose fields begin at ARGV[at]: what became of it, and the id of the run there is.
local SUBMISSION = 13
local function accept(at)
  local id, fn, q, payload, trigger, prio = unpack(ARGV, at, at + 5)
  local due, age, dedupe, window, parent, trace, most = unpack(ARGV, at + 6, at + 12)
  local run, input = keys_of(id)
  if redis.call('EXISTS', run) == 1 then
    return 'known', id
  end
  local only = ns .. 'dedupe:' .. fn .. ':' .. dedupe
  if dedupe ~= '' then
    local over, first = string.match(redis.call('GET', only) or '', '^(%d+) (.*)$')
    if over and tonumber(over) > now then
      return 'known', first
    end
  end
  if tonumber(most) > 0 then
    local count = 0
    for _, kind in ipairs({'ready:', 'due:', 'leases:', 'unknown:'}) do
      count = count + redis.call('ZCARD', ns .. kind .. q)
    end
    if count >= tonumber(most) then
      return 'full', id
    end
  end
  if dedupe ~= '' then
    redis.call('SET', only, string.format('%d %s', now + window, id), 'PX', window)
  end
  if string.sub(due, 1, 1) == '+' then
    due = string.format('%d', now + tonumber(string.sub(due, 2)))
  end
  local later = due ~= '' and tonumber(due) > now
  local fields = {
    'fn', fn, 'q', q, 'prio', prio, 'trigger', trigger, 'token', 0, 'accepted', now,
    'due', later and due or now, 'state', later and 'scheduled' or 'queued'
  }
  if age ~= '' then
    fields[#fields + 1] = 'expires'
    fields[#fields + 1] = (later and tonumber(due) or now) + age
  end
  if trace ~= '' then
    fields[#fields + 1] = 'trace'
    fields[#fields + 1] = trace
  end
  if parent ~= '' then
    fields[#fields + 1] = 'parent'
    fields[#fields + 1] = parent
    local children = ns .. 'children:' .. parent
    redis.call('SADD', children, id)
    redis.call('PEXPIRE', children, CHILDREN_KEPT)
  end
  redis.call('HSET', run, unpack(fields))
  redis.call('SET', input, payload)
  redis.call('SADD', ns .. 'queues', q)
  redis.call('SADD', ns .. 'functions', fn)
  redis.call('ZADD', ns .. 'open:' .. fn, stamp(), id)
  if later then
    redis.call('ZADD', ns .. 'due:' .. q, due, id)
  else
    make_ready(id, q, tonumber(prio))
  end
  return 'accepted', id
end

-- A run that failed for good starts the function that its own names with on_failure=, if there is one.
local function start_on_failure(id, fn, reason, failure)
  local target, q = string.match(redis.call('HGET', ns .. 'on_failure', fn) or '', '^(%S+) (.*)$')
  local another = id .. '-failed' .. (redis.call('HGET', ns .. 'run:' .. id, 'redriven') or '')
  local run, input = keys_of(another)
  if not target or redis.call('EXISTS', run) == 1 then
    return
  end
  local message = failure ~= '' and cjson.decode(failure).message or reason
  local told = cjson.encode({run_id = id, ['function'] = fn, reason = reason, error = message})
  local payload = redis.call('GET', ns .. 'in:' .. id) or '{}'
  redis.call('SET', input, string.sub(told, 1, -2) .. ',"arguments":' .. payload .. '}')
  redis.call(
    'HSET', run, 'fn', target, 'q', q, 'prio', 5, 'trigger', 'on_failure', 'token', 0, 'accepted', now, 'due', now,
    'state', 'queued', 'parent', id
  )
  redis.call('SADD', ns .. 'children:' .. id, another)
  redis.call('PEXPIRE', ns .. 'children:' .. id, CHILDREN_KEPT)
  redis.call('SADD', ns .. 'queues', q)
  redis.call('SADD', ns .. 'functions', target)
  redis.call('ZADD', ns .. 'open:' .. target, stamp(), another)
  make_ready(another, q, 5)
end

-- The run is over. failure: JSON, or '' for none.
local function close(id, fn, state, reason, failure)
  local run, input, output, log, progress = keys_of(id)
  local kind = state == 'failed' and 'dead' or 'done'
  redis.call('HSET', run, 'state', state, 'reason', reason, 'finished', now)
  redis.call('HDEL', run, 'cancel')
  if failure ~= '' then
    redis.call('SET', output, failure)
  end
  redis.call('ZREM', ns .. 'open:' .. fn, id)
  local finished = ns .. kind .. ':' .. fn
  redis.call('ZADD', finished, stamp(), id)
  for _, key in ipairs({run, input, output, log, progress}) do
    redis.call('PEXPIRE', key, KEEP[kind])
  end
  trim(finished, kind)
  if state == 'failed' then
    start_on_failure(id, fn, reason, failure)
  end
  redis.call('PUBLISH', ns .. 'done:' .. id, state)
end

local ATTEMPTS = 20
local function note_attempt(id, entry)
  local log = ns .. 'log:' .. id
  redis.call('RPUSH', log, entry)
  redis.call('LTRIM', log, -ATTEMPTS, -1)
end
