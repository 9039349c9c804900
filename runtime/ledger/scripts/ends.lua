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

local function forget_all(ids)
  local keys = {}
  for _, id in ipairs(ids) do
    local at = #keys
    keys[at + 1], keys[at + 2] = ns .. 'children:' .. id, ns .. 'flow:' .. id
    keys[at + 3], keys[at + 4], keys[at + 5], keys[at + 6], keys[at + 7], keys[at + 8] = keys_of(id)
  end
  for at = 1, #keys, PIECE do
    redis.call('UNLINK', unpack(keys, at, math.min(#keys, at + PIECE - 1)))
  end
end

-- Bound the lists of finished runs by age, that of good ones by number, too. An id may have come back since: only the
-- run that an entry was made for is forgotten, and no step of a flow that goes on, which may run it again. added: how many
-- are new in it.
local function trim(list, kind, size, added)
  local more = redis.call('ZCOUNT', list, '-inf', '(' .. now - KEEP[kind] + 1) -- scores have fractions of a ms
  if kind == 'done' then
    more = math.max(more, size - KEEP_COUNT)
  end
  more = math.min(more, math.max(TRIM, 2 * added))
  if more > 0 then
    local found, gone = redis.call('ZRANGE', list, 0, more - 1, 'WITHSCORES'), {}
    for i = 1, #found, 2 do
      local run = redis.call('HMGET', ns .. 'run:' .. found[i], 'finished', 'flow')
      local flow = run[2] and redis.call('HGET', ns .. 'run:' .. place_of(run[2]), 'state')
      if tonumber(run[1] or 0) == math.floor(found[i + 1]) and not is_open(flow) then
        gone[#gone + 1] = found[i]
      end
    end
    forget_all(gone)
    redis.call('ZREMRANGEBYRANK', list, 0, more - 1)
  end
end

-- A function's runs are over. one: ids, and with their places in the list.
local kept = {}
local function list_finished(fn, kind, one)
  local list = ns .. kind .. ':' .. fn
  send_all('ZREM', ns .. 'open:' .. fn, one.ids)
  send_all('ZADD', list, one.places)
  if not kept[list] then -- each time, not when it is trimmed alone: it stays for as long as the youngest in it
    kept[list] = true
    redis.call('PEXPIRE', list, KEEP[kind])
  end
  local size = redis.call('ZCARD', list)
  if size < 100 or one.is_due or (kind == 'done' and size > KEEP_COUNT * (1 + MARGIN)) then
    trim(list, kind, size, #one.ids)
  end
end

-- A script that ends many runs gathers what goes into the lists: it begins with gather_ends(), and calls write_ends()
-- before it goes on with flows.
local lists

local function gather_ends()
  lists = {done = {}, dead = {}}
end

local function write_ends()
  local all = lists
  lists = nil
  for kind, functions in pairs(all) do
    for fn, one in pairs(functions) do
      list_finished(fn, kind, one)
    end
  end
end

local function note_finished(id, fn, kind)
  local place = stamp()
  local one = lists and lists[kind][fn] or {ids = {}, places = {}}
  local count = #one.ids
  one.ids[count + 1], one.places[2 * count + 1], one.places[2 * count + 2] = id, place, id
  one.is_due = one.is_due or last % 64 == 0
  if lists then
    lists[kind][fn] = one
  else
    list_finished(fn, kind, one)
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
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'redriven', 'links', 'trace', 'accepted', 'in')
  local links = tonumber(found[2] or 0) + 1
  local another = id .. '-failed' .. (found[1] or '')
  if redis.call('EXISTS', ns .. 'run:' .. another) == 1 then
    another = another .. '-' .. found[4] -- that was of an earlier run with this id
  end
  if links > LINKS or redis.call('EXISTS', ns .. 'run:' .. another) == 1 then
    return
  end
  local text = cjson.encode({run_id = id, ['function'] = fn, reason = reason, error = message_of(failure, reason)})
  local payload = as_json(input_of(id, found[5]) or '')
  add_run({
    id = another, fn = target, q = q, prio = 5, trigger = 'on_failure', parent = id, trace = found[3] or '',
    payload = string.sub(text, 1, -2) .. ',"arguments":' .. payload .. '}'
  }, {'links', links})
end

-- The steps that have ended, for go_on of flows.lua.
local ended = {}

-- Keys that a run has only where something has gone otherwise than well, or is long.
local function close_keys(id, state, output, lasts)
  local _, input, place, log = keys_of(id)
  if #output > SHORT then
    redis.call('SET', place, output, 'PX', lasts)
  elseif output ~= '' or state == 'succeeded' then
    redis.call('DEL', place)
  else
    redis.call('PEXPIRE', place, lasts)
  end
  redis.call('PEXPIRE', input, lasts)
  redis.call('PEXPIRE', log, lasts)
end

-- The run is over. output: its result, or why it failed, as JSON; '' for none. flow: that field of its hash. is_bare: it has
-- no keys but its record, and what it comes to is short. A script that may close a step calls go_on at its end.
local function close(id, fn, state, reason, output, flow, is_bare)
  local run = ns .. 'run:' .. id
  local kind = state == 'failed' and 'dead' or 'done'
  if output ~= '' and #output <= SHORT then
    redis.call('HSET', run, 'state', state, 'finished', now, 'out', output)
  else
    redis.call('HSET', run, 'state', state, 'finished', now)
  end
  if reason ~= '' then
    redis.call('HSET', run, 'reason', reason)
  end
  if state == 'cancelled' then
    redis.call('HDEL', run, 'cancel')
  end
  redis.call('PEXPIRE', run, KEEP[kind])
  if not is_bare then
    close_keys(id, state, output, KEEP[kind])
  end
  note_finished(id, fn, kind)
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
