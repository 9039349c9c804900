-- Whose turn it is, of the runs that wait for a function's limits. For claim.
local LOOKED = 1000 -- keys of which a script sees that they may not begin
local LATE = 250 -- ms that a run which waits may begin late, by the reaper's looks, at no cost to those behind it
local FAST = 1000 -- ms between two of a rate, from which on that matters less than that none is early

local lanes = lanes()
local looked = 0

-- Since when the first run of a key could have begun, as far as its rate counts that; nil for now.
local function since_of(lane, key, every)
  local id = every < FAST and redis.call('ZRANGE', lanes.waiting_of(lane, key), 0, 0)[1]
  local due = id and tonumber(redis.call('HGET', ns .. 'run:' .. id, 'due') or nil)
  return due and math.min(now, math.max(due, now - LATE))
end

-- Whether a key may begin: what it is granted then; else what keeps it, and when time alone may change that.
local function look_at(fn, limits, slot, lane, key)
  local most, every = limits.concurrency or 0, limits.every_ms or 0
  if most > 0 then
    local free, at = lanes.has_place(fn, slot, most)
    if not free then
      return nil, 'p', at
    end
  end
  local grant = {slot = slot, places = most > 0, reset = limits.reset_ms or 0}
  grant.failures = (limits.failures or 0) > 0 and limits.failures
  if every > 0 then
    local wait, next_at = lanes.look_at_rate(fn, slot, every, limits.burst or 1, since_of(lane, key, every))
    if wait > 0 then
      return nil, 'r', now + math.ceil(wait)
    end
    grant.next_at = next_at
  end
  return grant
end

-- The key of a lane whose turn it is, and its grant. nil if none may begin, false if more have to be looked at than one
-- script does.
local function next_key(lane, fn, limits)
  while true do
    local found = redis.call('ZRANGE', ns .. 'turn:' .. lane, 0, 0, 'WITHSCORES')
    local key = found[1]
    if not key or looked >= LOOKED then
      return not key and nil
    elseif limits.keyed and key == '' then
      return key, {}
    end
    local slot = limits.keyed and key or ''
    local grant, what, at = look_at(fn, limits, slot, lane, key)
    if grant then
      return key, grant
    end
    looked = looked + 1
    lanes.block_key(fn, slot, lane, key, found[2], what, at)
  end
end

-- The first run of a key, which waits no more; nil if there is none after all: workers that know no limits take runs, too.
local function first_run(lane, key)
  while true do
    local id = redis.call('ZPOPMIN', lanes.waiting_of(lane, key), 1)[1]
    local more = lanes.count_off(lane, key)
    if id and redis.call('HGET', ns .. 'run:' .. id, 'state') == 'queued' then
      if more then
        redis.call('ZADD', ns .. 'turn:' .. lane, number(), key)
      end
      return id
    elseif not more then
      return nil
    end
  end
end

local function swap(key, one, other)
  local score = redis.call('ZSCORE', key, one)
  if score then
    redis.call('ZREM', key, one)
    redis.call('ZADD', key, score, other)
  end
  return score
end

-- A run gets the place of another, which begins in its stead. line: ids and scores that were taken out of the queue.
local function give_place(q, fn, lane, line, at, one, other)
  for place = at + 2, #line, 2 do
    if line[place] == one then
      line[place] = other
      return
    end
  end
  if swap(ns .. 'ready:' .. q, one, other) then
    return
  elseif swap(ns .. 'apart:' .. lane, one, other) then
    swap(ns .. 'limited:' .. q, one, other)
  elseif swap(key_of_two('wait:', q, fn), one, other) then
    swap(ns .. 'unknown:' .. q, one, other)
  end
end

-- The breaker of a function. Whether it lets one begin, and whether that is a trial.
local function is_closed(fn, limits, lane)
  if (limits.failures or 0) == 0 then
    return true, false
  end
  local word, at = lanes.look_at_breaker(fn, limits.reset_ms or 0)
  if word == 'no' then
    lanes.shut(fn, lane, at)
  end
  return word ~= 'no', word == 'trial'
end

-- Which run is to begin in the place of the one at `at` of line, and its grant: {} for one that has to be assigned a key
-- first, nil if there are no limits. No run if none may begin.
local function run_of_turn(q, line, at, fn, prio, key, limits)
  local id, score = line[at], line[at + 1]
  local lane = lanes.of(q, prio, fn)
  if not limits or (limits.keyed and (key or '') == '') then
    if key then
      lanes.drop(lane, key, id)
    end
    return id, limits and {} or nil, lane
  end
  if not key then -- of a function without key=
    redis.call('HSET', ns .. 'run:' .. id, 'key', '')
  end
  lanes.join(lane, fn, key or '', id, score) -- if it does not: whoever put it in line may have known no limits
  local closed, trial = is_closed(fn, limits, lane)
  local turn, grant, first
  while closed and not first do
    turn, grant = next_key(lane, fn, limits)
    if not turn then
      break
    end
    first = first_run(lane, turn)
  end
  if turn == false then
    redis.call('ZADD', ns .. 'ready:' .. q, score, id)
    return nil
  elseif not turn then
    lanes.put_apart(lane, q, id, score)
    return nil
  end
  grant.trial = trial
  if first ~= id then
    give_place(q, fn, lane, line, at, first, id)
  end
  return first, grant, lane
end

-- As refill; but what is more urgent than what is in line already begins before it.
local function refill_line(lane, q, line, at)
  if redis.call('EXISTS', ns .. 'turn:' .. lane, ns .. 'apart:' .. lane) < 2 then
    return
  end
  local id, score = unpack(redis.call('ZPOPMIN', ns .. 'apart:' .. lane))
  redis.call('ZREM', ns .. 'limited:' .. q, id)
  for place = at + 2, #line, 2 do
    if tonumber(score) < tonumber(line[place + 1]) then
      table.insert(line, place, score)
      table.insert(line, place, id)
      return
    end
  end
  redis.call('ZADD', ns .. 'ready:' .. q, score, id)
end

-- Whether this script has looked at so many keys that others shall have the store first.
local function is_tired()
  return looked >= LOOKED
end
