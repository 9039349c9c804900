-- What every script begins with. ARGV: prefix of all keys, now in ms ("" for the server's clock), how long a good and
-- how long a failed run is kept (ms), how many finished ones a function keeps; then the script's own.
--
-- run:{id}    hash: fn q state prio trigger token failures crashes accepted due ...   (lasting while the run is open)
-- in:{id} out:{id} log:{id} progress:{id} children:{id}   payload, result or error, attempts, latest progress, ids
-- ready:{q} due:{q} leases:{q}   sorted sets of ids by urgency, by ms, by ms
-- wait:{length of q}:{q}:{fn} waiting:{q} unknown:{q}   ready runs a worker met that does not know their function; by
--                                         urgency; which functions have some; by ms of their end
-- open:{fn} done:{fn} dead:{fn}  sorted sets of ids, for lists
-- dedupe:{length of fn}:{fn}:{key}  until when (ms), and the id of the first
-- worker:{w} info:{w}  set of the functions a worker knows, JSON; workers: sorted set by ms of their end
--
-- What time decides is a deadline that is compared with `now`, which may be a test's: a TTL only collects garbage.
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
local ALONE = 3 -- crashes of a process of its own, after which a run is given up
local LOST = 20 -- workers lost meanwhile, after which it is given up, too
local CHILDREN_KEPT = 32 * 86400000
local BELLS = 64
local LINKS = 10 -- on_failure functions of on_failure functions ...
local SLACK = 3600000 -- ms that a key outlives its deadline
local TRIM = 100 -- runs removed at a time
local MARGIN = 0.005 -- by how much of its number a list may be too long, so that it is trimmed now and then
local BAND = 9e14 -- a priority's part of the scores in a ready set; sums are exact to 9e15

-- The order of ids in a sorted set, bytes; Lua's own `<` goes by the locale of the server.
local function less(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

-- The next number of a lasting sequence. block: how many a script takes at once.
local block = 1
local last, left_of_block = 0, 0
local function number()
  if left_of_block == 0 then
    left_of_block = block
    last = redis.call('INCRBY', ns .. 'seq', block) - block
  end
  left_of_block = left_of_block - 1
  last = last + 1
  return last
end

-- A score for lists: by time, and in order within a millisecond.
local function stamp()
  return now + number() % 4096 / 4096
end

-- Whatever a script does to a queue, one worker is woken, which wakes the next if it leaves something.
local rung = {}
local function ring(q)
  if not rung[q] then
    rung[q] = true
    local bell = ns .. 'bell:' .. q
    if redis.call('LLEN', bell) < BELLS then
      redis.call('LPUSH', bell, 1)
    end
  end
end

local added = {}
local function add_name(set, name)
  if not added[set .. name] then
    added[set .. name] = true
    redis.call('SADD', ns .. set, name)
  end
end

-- The fence of a claim: no other claim of this store has the same, one of an earlier run of the same id neither.
local function new_token()
  return number()
end

-- first: before all others of its priority
local function make_ready(id, q, prio, first)
  local place = first and 0 or number()
  redis.call('ZADD', ns .. 'ready:' .. q, (9 - prio) * BAND + place, id)
  ring(q)
end

-- Names may have colons: with its length, the first of two ends where it ends.
local function key_of_two(kind, one, other)
  return ns .. kind .. #one .. ':' .. one .. ':' .. other
end

local function leave_wait(id, q, fn)
  local wait = key_of_two('wait:', q, fn)
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
      if tonumber(redis.call('HGET', ns .. 'run:' .. found[i], 'finished') or 0) == math.floor(found[i + 1]) then
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

-- Accept the submission whose fields begin at ARGV[at]: what became of it, and the id of the run there is.
local SUBMISSION = 13
local function accept(at)
  local id, fn, q, payload, trigger, prio = unpack(ARGV, at, at + 5)
  local due, age, dedupe, window, parent, trace, most = unpack(ARGV, at + 6, at + 12)
  local run, input = keys_of(id)
  if redis.call('EXISTS', run) == 1 then
    return 'known', id
  end
  local only = key_of_two('dedupe:', fn, dedupe)
  if dedupe ~= '' then
    local over, first = string.match(redis.call('GET', only) or '', '^(%d+) (.*)$')
    if over and tonumber(over) > now then
      return 'known', first
    end
  end
  if tonumber(most) > 0 then
    if open_in(q) >= tonumber(most) then
      return 'full', id
    end
  end
  if dedupe ~= '' then
    redis.call('SET', only, string.format('%d ', now + window) .. id, 'PX', window + SLACK)
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
  if counts[q] then
    counts[q] = counts[q] + 1
  end
  redis.call('HSET', run, unpack(fields))
  redis.call('SET', input, payload)
  add_name('queues', q)
  add_name('functions', fn)
  redis.call('ZADD', ns .. 'open:' .. fn, stamp(), id)
  if later then
    redis.call('ZADD', ns .. 'due:' .. q, due, id)
  else
    make_ready(id, q, tonumber(prio))
  end
  return 'accepted', id
end

-- A payload as it can stand in JSON: what is none (somebody else's message, say) is null.
local function as_json(payload)
  local strange = string.gsub(payload, '[%z\1-\127\194-\244][\128-\191]*', '')
  return strange == '' and pcall(cjson.decode, payload) and payload or 'null'
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
  local run, input = keys_of(another)
  if links > LINKS or redis.call('EXISTS', run) == 1 then
    return
  end
  local _, told = pcall(cjson.decode, failure)
  local message = type(told) == 'table' and told.message or reason
  local text = cjson.encode({run_id = id, ['function'] = fn, reason = reason, error = message})
  local payload = as_json(redis.call('GET', ns .. 'in:' .. id) or '')
  redis.call('SET', input, string.sub(text, 1, -2) .. ',"arguments":' .. payload .. '}')
  redis.call(
    'HSET', run, 'fn', target, 'q', q, 'prio', 5, 'trigger', 'on_failure', 'token', 0, 'accepted', now, 'due', now,
    'state', 'queued', 'parent', id, 'links', links
  )
  if found[3] then
    redis.call('HSET', run, 'trace', found[3])
  end
  redis.call('SADD', ns .. 'children:' .. id, another)
  redis.call('PEXPIRE', ns .. 'children:' .. id, CHILDREN_KEPT)
  add_name('queues', q)
  add_name('functions', target)
  redis.call('ZADD', ns .. 'open:' .. target, stamp(), another)
  make_ready(another, q, 5)
end

-- The run is over. output: its result, or why it failed, as JSON; '' for none.
local function close(id, fn, state, reason, output)
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
end

-- What is seldom there, and may go a little later than its run.
local LONGEST = math.max(KEEP.done, KEEP.dead) + SLACK

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
local function note_crash(id, fn, lost)
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
  close(id, fn, 'failed', 'crashed', cjson.encode({type = 'Crashed', traceback = '', message = message}))
  return true
end

-- A run that is at work goes back to its queue, as if it had not been claimed. Whether it is there.
local function hand_back(id, q)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'fn', 'prio', 'cancel')
  redis.call('ZREM', ns .. 'leases:' .. q, id)
  if found[3] then
    close(id, found[1], 'cancelled', 'cancelled', '')
    return false
  end
  redis.call('HSET', run, 'state', 'queued', 'token', new_token()) -- whoever still runs it may not finish it
  make_ready(id, q, tonumber(found[2]), true)
  return true
end
