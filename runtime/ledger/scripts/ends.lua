-- How runs end, and begin again. Behind runs.lua.
-- include: ticks callbacks
local ALONE = 3 -- crashes of a process of its own, after which a run is given up
local LOST = 20 -- workers lost meanwhile, after which it is given up, too
local LINKS = 10 -- on_failure functions of on_failure functions ...
local TRIM = 100 -- runs removed at a time
local MARGIN = 0.005 -- by how much of its number a list may be too long, so that it is trimmed now and then

local function is_open(state)
  return state and state ~= 'succeeded' and state ~= 'failed' and state ~= 'cancelled'
end

-- A step says in the field `flow` which one it is: its number:the flow's id.
local function place_of(flow)
  local step, id = string.match(flow, '^(%d+):(.*)$')
  return id, tonumber(step)
end

local function forget(id)
  redis.call('UNLINK', ns .. 'children:' .. id, ns .. 'flow:' .. id, keys_of(id))
end

-- Bound the lists of finished runs by age, that of good ones by number, too. An id may have come back since: only the
-- run that an entry was made for is forgotten, and no step of a flow that goes on, which may run it again.
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
      local flow = run[2] and redis.call('HGET', ns .. 'run:' .. place_of(run[2]), 'state')
      if tonumber(run[1] or 0) == math.floor(found[i + 1]) and not is_open(flow) then
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
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'redriven', 'links', 'trace', 'accepted')
  local links = tonumber(found[2] or 0) + 1
  local another = id .. '-failed' .. (found[1] or '')
  if redis.call('EXISTS', ns .. 'run:' .. another) == 1 then
    another = another .. '-' .. found[4] -- that was of an earlier run with this id
  end
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
  if is_tick(id) then
    end_tick(id, state)
  end
  if has_callback(id) then
    note_callback(id, fn, state, reason, output)
  end
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
-- once: from then on the run is alone, and others are as likely to blame; the field `shared` says that there was such a
-- time, which counts for nothing else. Whether it is given up.
local function note_crash(id, fn, lost, flow)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'crashes', 'shared')
  local crashes, shared, losses = tonumber(found[1] or 0), tonumber(found[2] or 0), 0
  if lost and crashes == 0 then
    redis.call('HSET', run, 'crashes', 1, 'shared', 1)
    crashes, shared = 1, 1
  elseif lost then
    losses = redis.call('HINCRBY', run, 'losses', 1)
  else
    crashes = redis.call('HINCRBY', run, 'crashes', 1)
  end
  if crashes - shared < ALONE and losses <= LOST then
    return false
  end
  local message = 'the process that ran it died ' .. string.format('%d', crashes) .. ' times'
  if losses > 0 then
    message = message .. ', and its worker ' .. string.format('%d', losses) .. ' times'
  end
  close(id, fn, 'failed', 'crashed', cjson.encode({type = 'Crashed', traceback = '', message = message}), flow)
  return true
end
