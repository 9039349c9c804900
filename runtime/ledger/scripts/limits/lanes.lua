-- How runs wait for limits, who holds a place, and what its end sets in motion.
--
-- A limited run that is queued waits in a lane: {its queue}{its priority}{its function}, each with its length. What
-- stands in the queue are places in line, of which each run has one; whoever comes to one gives it to the run whose turn
-- it is: the first run of the key that was served longest ago, of those that may begin.
--
-- keyed:{lane}:{key}  sorted set of runs by urgency: those of one key
-- keys:{lane}         sorted set: keys, by how many of their runs wait
-- turn:{lane}         sorted set: keys that may begin, as far as is known, by the number of when they were served last
-- blocked:{fn}:{slot} sorted set: {lane}:{key} of those that may not, by the same number
-- apart:{lane} limited:{q}  sorted sets by urgency: runs that have no place in line, since no key of their lane may begin
-- shut:{fn}           set: lanes that a breaker keeps from beginning
-- lanes:{fn}          set: the lanes there have been; limits: hash: of each function, as a worker said it last, JSON
-- until               sorted set by ms: what is to be looked at then: b{fn} the breaker, r{fn}{slot} the rate, p{fn}{slot}
--                     whether somebody who held a place, or waited for one, is gone
--
-- Always: a key of which runs wait is in `turn` or `blocked`. As long as a lane has keys in `turn`, and is not shut, it has
-- a run in line, if it has any. Whatever frees a place, or comes with time, takes its keys out of `blocked`.
--
-- slot: the key, '' for all of a function that is not bound for each key.
-- places:{fn}:{slot}  set: runs that hold a place, for as long as they are at work; their field `slot` says so
-- calls:{fn}:{slot}   sorted set: other calls that hold one, by ms of their lease's end
-- callers:{fn}:{slot} asked:{fn}:{slot}   sorted sets: calls that wait, by number, and by ms until when they may ask again
-- rate:{fn}:{slot}    when the next call would begin, ms, if all came evenly (GCRA)
-- breaker:{fn}        hash: failures (in a row); opened (ms), trial (who tries), lapses (ms, '' for a run)
-- Fields of a run that is at work: slot, breaker (failures:reset), line (if it is to be assigned a key: its place
-- in line, and the token it had)

-- Names may have colons: what is between two of them is told by its length.
local function lane_of(q, prio, fn)
  return #q .. ':' .. q .. ':' .. prio .. ':' .. #fn .. ':' .. fn
end

local function read_lane(text)
  local size, at = string.match(text, '^(%d+):()')
  local q = string.sub(text, at, at + size - 1)
  local prio, more, rest = string.match(text, '^:(%d+):(%d+):()', at + size)
  local last = rest + more - 1
  return {
    q = q, prio = prio, fn = string.sub(text, rest, last), lane = string.sub(text, 1, last), key = string.sub(text, last + 2)
  }
end

local function waiting_of(lane, key)
  return ns .. 'keyed:' .. lane .. ':' .. key
end

-- A run waits in its lane, and its key takes its turn.
local function join(lane, fn, key, id, score)
  if redis.call('ZADD', waiting_of(lane, key), 'NX', score, id) == 0 then
    return
  end
  if tonumber(redis.call('ZINCRBY', ns .. 'keys:' .. lane, 1, key)) == 1 then
    redis.call('ZADD', ns .. 'turn:' .. lane, 'NX', number(), key)
    add_name('lanes:' .. fn, lane)
  end
end

-- One run less of a key waits. Whether there are others.
local function count_off(lane, key)
  if tonumber(redis.call('ZINCRBY', ns .. 'keys:' .. lane, -1, key)) > 0 then
    return true
  end
  redis.call('ZREM', ns .. 'keys:' .. lane, key)
  redis.call('ZREM', ns .. 'turn:' .. lane, key)
  return false
end

local function drop(lane, key, id)
  if redis.call('ZREM', waiting_of(lane, key), id) == 1 then
    count_off(lane, key)
  end
end

local function put_apart(lane, q, id, score)
  redis.call('ZADD', ns .. 'apart:' .. lane, score, id)
  redis.call('ZADD', ns .. 'limited:' .. q, score, id)
end

-- Runs that stand apart stand in line again.
local function call_back(lane, q, most)
  local found = redis.call('ZPOPMIN', ns .. 'apart:' .. lane, most)
  for at = 1, #found, 2 do
    redis.call('ZREM', ns .. 'limited:' .. q, found[at])
    redis.call('ZADD', ns .. 'ready:' .. q, found[at + 1], found[at])
  end
  if #found > 0 then
    ring(q)
  end
end

-- A key may begin, as far as is known: then a run of its lane has to stand in line.
local function refill(lane, q)
  if redis.call('EXISTS', ns .. 'turn:' .. lane, ns .. 'apart:' .. lane) == 2 then
    call_back(lane, q, 1)
  end
end

-- A run that is queued waits no more.
local function leave_lane(id, q, prio, fn, key)
  local lane = lane_of(q, prio, fn)
  drop(lane, key, id)
  if redis.call('ZREM', ns .. 'apart:' .. lane, id) == 1 then
    redis.call('ZREM', ns .. 'limited:' .. q, id)
  end
  refill(lane, q)
end

-- In `until`, behind a letter.
local function name_of(fn, slot)
  return #fn .. ':' .. fn .. ':' .. slot
end

-- A key cannot begin now. at: when time alone may change that, nil for never; what: whether it is to be looked at then.
local function block_key(fn, slot, lane, key, served, what, at)
  redis.call('ZREM', ns .. 'turn:' .. lane, key)
  redis.call('ZADD', key_of_two('blocked:', fn, slot), served, lane .. ':' .. key)
  if at then
    redis.call('ZADD', ns .. 'until', at, what .. name_of(fn, slot))
  end
end

-- What keeps a key from beginning has changed.
local function wake(fn, slot)
  local blocked = key_of_two('blocked:', fn, slot)
  local found = redis.call('ZRANGE', blocked, 0, -1, 'WITHSCORES')
  if #found == 0 then
    return
  end
  local name = name_of(fn, slot)
  redis.call('DEL', blocked)
  redis.call('ZREM', ns .. 'until', 'p' .. name, 'r' .. name)
  for at = 1, #found, 2 do
    local one = read_lane(found[at])
    if redis.call('ZSCORE', ns .. 'keys:' .. one.lane, one.key) then
      redis.call('ZADD', ns .. 'turn:' .. one.lane, 'NX', found[at + 1], one.key)
      refill(one.lane, one.q)
      ring(one.q)
    end
  end
end

-- The same of the breaker of a function.
local function wake_all(fn)
  local shut = ns .. 'shut:' .. fn
  local lanes = redis.call('SMEMBERS', shut)
  if #lanes > 0 then
    redis.call('DEL', shut)
    redis.call('ZREM', ns .. 'until', 'b' .. fn)
    for _, lane in ipairs(lanes) do
      refill(lane, read_lane(lane).q)
    end
  end
end

local function shut_lane(fn, lane, at)
  redis.call('SADD', ns .. 'shut:' .. fn, lane)
  if at then
    redis.call('ZADD', ns .. 'until', at, 'b' .. fn)
  end
end

-- When the first of those that hold or wait for a place is over by time, nil for never.
local function first_lapse(fn, slot)
  local first
  for _, kind in ipairs({'calls:', 'asked:'}) do
    local at = tonumber(redis.call('ZRANGE', key_of_two(kind, fn, slot), 0, 0, 'WITHSCORES')[2])
    first = at and (not first or at < first) and at or first
  end
  return first
end

-- Calls that wait and have not asked again wait no more. Whether there were some.
local function forget_callers(fn, slot)
  local asked = key_of_two('asked:', fn, slot)
  local over = redis.call('ZRANGEBYSCORE', asked, '-inf', now)
  for _, holder in ipairs(over) do
    redis.call('ZREM', asked, holder)
    redis.call('ZREM', key_of_two('callers:', fn, slot), holder)
  end
  return #over > 0
end

local function forget_calls(fn, slot)
  return redis.call('ZREMRANGEBYSCORE', key_of_two('calls:', fn, slot), '-inf', now) > 0
end

-- The time has come for a key, or a breaker, to be looked at.
local function look_again(what, name)
  if what == 'b' then
    return wake_all(name)
  end
  local size, at = string.match(name, '^(%d+):()')
  local fn, slot = string.sub(name, at, at + size - 1), string.sub(name, at + size + 1)
  local first = what == 'p' and first_lapse(fn, slot)
  if first and first > now then
    redis.call('ZADD', ns .. 'until', first, what .. name)
    return
  end
  forget_calls(fn, slot)
  forget_callers(fn, slot)
  wake(fn, slot)
end

-- A place of a run that is not at work is none: a reaper that knows no limits has taken that back. One is looked at, for
-- they are few, and whoever has a place asks for all that wait when it ends. Whether it was none.
local function forget_stray(fn, slot)
  local places = key_of_two('places:', fn, slot)
  local id = redis.call('SRANDMEMBER', places)
  if id and redis.call('HGET', ns .. 'run:' .. id, 'state') ~= 'running' then
    redis.call('SREM', places, id)
    return true
  end
  return false
end

-- Whether a place is free for a run; else when time alone may free one.
local function has_place(fn, slot, most)
  local used = redis.call('SCARD', key_of_two('places:', fn, slot))
  for _, kind in ipairs({'calls:', 'asked:'}) do
    used = used + redis.call('ZCOUNT', key_of_two(kind, fn, slot), '(' .. now, '+inf')
  end
  if used < most or (forget_stray(fn, slot) and used == most) then
    return true
  end
  forget_calls(fn, slot)
  forget_callers(fn, slot)
  return false, first_lapse(fn, slot)
end

local function take_rate(fn, slot, next_at)
  redis.call('SET', key_of_two('rate:', fn, slot), string.format('%.6f', next_at), 'PX', math.ceil(next_at - now) + SLACK)
end

-- How long until another may begin, in ms, 0 for now; and what is to be written once it does. What slower limits have left
-- behind, those before these, does not last. since: when it could have begun at the earliest, nil for now.
local RESERVED = 60000 -- ms that calls reserve ahead, at most
local function look_at_rate(fn, slot, every, burst, since)
  local next_at = tonumber(redis.call('GET', key_of_two('rate:', fn, slot)) or 0)
  local last = now + burst * every + RESERVED
  if next_at > last then
    next_at = last
    take_rate(fn, slot, next_at)
  end
  next_at = math.max(next_at, since or now)
  local wait = next_at - now - (burst - 1) * every
  return wait > 0.001 and wait or 0, next_at + every
end

-- Whether a run that was at work is so no more, or its lease is over: where no worker is left, nobody takes it back.
local function is_lost(id)
  local q, state = unpack(redis.call('HMGET', ns .. 'run:' .. id, 'q', 'state'), 1, 2)
  local at = q and tonumber(redis.call('ZSCORE', ns .. 'leases:' .. q, id) or nil)
  return state ~= 'running' or (at and at < now) -- claim writes leases last
end

-- Whether a breaker lets a call begin: yes, or trial (to see whether it is to be closed), or no with when that may change,
-- nil if not by time.
local function look_at_breaker(fn, reset)
  local found = redis.call('HMGET', ns .. 'breaker:' .. fn, 'opened', 'trial', 'lapses')
  local opened, trial, lapses = tonumber(found[1] or ''), found[2], tonumber(found[3] or '')
  if not opened then
    return 'yes'
  elseif opened + reset > now then
    return 'no', opened + reset
  elseif not trial or (lapses and lapses <= now) or (not lapses and is_lost(trial)) then
    return 'trial'
  end
  return 'no', lapses
end

local function keep_breaker(fn, reset)
  redis.call('PEXPIRE', ns .. 'breaker:' .. fn, reset + LONGEST)
end

-- lapses: ms, '' for a run, whose end is always told.
local function begin_trial(fn, reset, holder, lapses)
  redis.call('HSET', ns .. 'breaker:' .. fn, 'trial', holder, 'lapses', lapses)
  keep_breaker(fn, reset)
end

-- A call has ended. verdict: good, bad or none. most: failures in a row that open the breaker.
local function judge(fn, verdict, holder, most, reset)
  local breaker = ns .. 'breaker:' .. fn
  local found = redis.call('HMGET', breaker, 'opened', 'trial', 'failures')
  if found[1] then
    if found[2] ~= holder then
      return
    elseif verdict == 'good' then
      redis.call('DEL', breaker)
      return wake_all(fn)
    end
    redis.call('HDEL', breaker, 'trial', 'lapses')
    if verdict == 'none' then
      return wake_all(fn)
    end
    redis.call('HSET', breaker, 'opened', now)
    keep_breaker(fn, reset)
    if redis.call('EXISTS', ns .. 'shut:' .. fn) == 1 then
      redis.call('ZADD', ns .. 'until', now + reset, 'b' .. fn)
    end
  elseif verdict == 'bad' then
    local count = redis.call('HINCRBY', breaker, 'failures', 1)
    if count >= most then
      redis.call('HDEL', breaker, 'failures')
      redis.call('HSET', breaker, 'opened', now)
    end
    keep_breaker(fn, reset)
  elseif verdict == 'good' and found[3] then
    redis.call('DEL', breaker)
  end
end

local function hold_place(fn, slot, holder, lease)
  local calls = key_of_two('calls:', fn, slot)
  redis.call('ZADD', calls, now + lease, holder)
  redis.call('PEXPIRE', calls, lease + SLACK)
end

-- A run begins that limits hold for. grant: slot, and as far as they are bound, places (true), next_at, failures and reset,
-- trial (true).
local function enter_run(id, fn, grant)
  local run = ns .. 'run:' .. id
  if grant.places then
    redis.call('SADD', key_of_two('places:', fn, grant.slot), id)
    redis.call('HSET', run, 'slot', grant.slot)
  end
  if grant.next_at then
    take_rate(fn, grant.slot, grant.next_at)
  end
  if grant.failures then
    redis.call('HSET', run, 'breaker', grant.failures .. ':' .. grant.reset)
    if grant.trial then
      begin_trial(fn, grant.reset, id, '')
    end
  end
end

-- A run is at work no more. slot, breaker: those fields of its hash. holder: of what goes on of it, that keeps its place
-- for so long (lease, ms); nil if nothing does.
local function leave_run(id, fn, slot, breaker, verdict, holder, lease)
  redis.call('HDEL', ns .. 'run:' .. id, 'slot', 'breaker')
  if breaker then
    local most, reset = string.match(breaker, '^(%d+):(%d+)$')
    judge(fn, verdict, id, tonumber(most), tonumber(reset))
  end
  if slot then
    redis.call('SREM', key_of_two('places:', fn, slot), id)
    if holder then
      hold_place(fn, slot, holder, lease)
    end
    wake(fn, slot)
  end
end
