-- Schedules: what is defined, who fires, which tick of each was the last.
--
-- set:{digest}      hash: the definitions of a deployment, by id, each as told_of wants them. In '' its number and place among
--                   all sets; '-' before it is registered, nothing while it is being uploaded. Goes a day after the last
--                   living scheduler that has it, unless it is the current one
-- scheduler:{name}  hash: digest number place partial info; schedulers: sorted set by ms of their end
-- schedules         hash: current (digest), deployment (highest number), places, version, floor (changes up to that version
--                   are not in the log), clock (ms of the latest watch)
-- schedule_changes  sorted set: ids of what was changed at run time, by version
-- schedule_ids      sorted set, all of one score: ids of the current set, and of what was added
-- added overrides   hashes by id
-- schedule_states schedule:{id}   what became of them: see states.lua
-- skips:{id}        list, newest first: planned:count:why
-- ticks held:{id} backfill backheld:{id}   see ticks.lua
--
-- The current set is that of the living scheduler with the highest number; of two with the same, the set that came later.
-- A partial one, of a scheduler with files that do not load, comes behind all others.
-- It stays when nobody lives. `last` moves on without runs for what was paused, or had another rule, or was not defined.
-- It goes back only with the store's clock. Behind states.lua.
local LIFE = 10000 -- ms that a scheduler lives without a watch
local DAY = 86400000
local BACK = 60000 -- ms that the store's clock may go back by, and all stays as it was
local ABSENT = 32 * DAY -- ms that a schedule's state outlives its definition
local CHANGES = 1000 -- remembered
local MANY = 500 -- values of one command

-- A definition or an override is kept as its rule (JSON, '' for none), a line feed, and its JSON.
local function rule_of(told)
  return told and string.match(told, '^[^\n]*') or ''
end

local function told_of(rule, text)
  return rule .. '\n' .. text
end

local function current_set()
  return redis.call('HGET', ns .. 'schedules', 'current') or ''
end

-- What a schedule is defined as now; nil if it is not.
local function definition_of(id, current)
  return redis.call('HGET', ns .. 'set:' .. current, id) or redis.call('HGET', ns .. 'added', id) or nil
end

-- Ticks up to now are dealt with.
local function begin_now(state)
  state.last = state.last > now + BACK and now or math.max(now, state.last)
end

local function send_many(command, key, values)
  for at = 1, #values, MANY do
    redis.call(command, key, unpack(values, at, math.min(#values, at + MANY - 1)))
  end
end

-- Fields of a hash, in the order of their names.
local function read_many(key, names)
  if #names > 0 and #names <= MANY then
    return redis.call('HMGET', key, unpack(names))
  end
  local values = {}
  for at = 1, #names, MANY do
    for _, value in ipairs(redis.call('HMGET', key, unpack(names, at, math.min(#names, at + MANY - 1)))) do
      values[#values + 1] = value
    end
  end
  return values
end

-- What is known of schedules that come, in their order. What was kept for those that may come back is taken.
local function take_states(ids)
  local states, keys, places = read_many(STATES, ids), {}, {}
  for at, id in ipairs(ids) do
    if not states[at] then
      keys[#keys + 1] = ns .. 'schedule:' .. id
      places[#keys] = at
    end
  end
  for from = 1, #keys, MANY do
    for at, text in ipairs(redis.call('MGET', unpack(keys, from, math.min(#keys, from + MANY - 1)))) do
      if text then
        states[places[from + at - 1]] = text
        redis.call('DEL', keys[from + at - 1])
      end
    end
  end
  return states
end

-- Schedules are defined so. told: of each, as told_of made it.
local function define(ids, told)
  local states, changed = take_states(ids), {}
  local overrides = redis.call('EXISTS', ns .. 'overrides') == 1 and read_many(ns .. 'overrides', ids) or {}
  for at, id in ipairs(ids) do
    local rule = rule_of(overrides[at])
    if rule == '' then
      rule = rule_of(told[at])
    end
    local state = state_of(states[at]) or new_state()
    if state.rule ~= rule then
      begin_now(state)
      state.rule = rule
      changed[#changed + 1] = id
      changed[#changed + 1] = text_of(state)
    end
  end
  send_many('HSET', STATES, changed)
end

-- A schedule is defined nowhere any more. It may come back.
local function undefine(id)
  local state = find_state(id)
  if state then
    state.rule = ''
    redis.call('SET', ns .. 'schedule:' .. id, text_of(state), 'PX', ABSENT)
    redis.call('HDEL', STATES, id)
  end
end

local function change(id)
  local version = redis.call('HINCRBY', ns .. 'schedules', 'version', 1)
  local log = ns .. 'schedule_changes'
  redis.call('ZADD', log, version, id)
  local over = redis.call('ZCARD', log) - CHANGES
  if over > 0 then
    local gone = redis.call('ZPOPMIN', log, over)
    redis.call('HSET', ns .. 'schedules', 'floor', gone[#gone])
  end
end

-- Another set is the current one.
local function switch(digest, before)
  local added, there, ids, told = {}, {}, {}, {}
  for _, id in ipairs(redis.call('HKEYS', ns .. 'added')) do
    added[id] = true
  end
  local found, come, gone = redis.call('HGETALL', ns .. 'set:' .. digest), {}, {}
  for at = 1, #found, 2 do
    if found[at] ~= '' then
      there[found[at]] = true
      come[#come + 1] = 0
      come[#come + 1] = found[at]
      ids[#ids + 1] = found[at]
      told[#told + 1] = found[at + 1]
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', ns .. 'schedule_ids', 0, -1)) do
    if not there[id] then
      if added[id] then
        ids[#ids + 1] = id
        told[#told + 1] = redis.call('HGET', ns .. 'added', id)
      else
        gone[#gone + 1] = id
        undefine(id)
      end
    end
  end
  define(ids, told)
  send_many('ZADD', ns .. 'schedule_ids', come)
  send_many('ZREM', ns .. 'schedule_ids', gone)
  redis.call('PERSIST', ns .. 'set:' .. digest)
  redis.call('PEXPIRE', ns .. 'set:' .. before, DAY)
  local version = redis.call('HINCRBY', ns .. 'schedules', 'version', 1)
  redis.call('HSET', ns .. 'schedules', 'current', digest, 'floor', version)
  redis.call('DEL', ns .. 'schedule_changes')
end

local function is_higher(one, other)
  for at = 1, #one do
    if one[at] ~= other[at] then
      return one[at] > other[at]
    end
  end
  return false
end

-- Which set is the current one, now that somebody came, or may have gone.
local function elect()
  local best
  redis.call('ZREMRANGEBYSCORE', ns .. 'schedulers', '-inf', now)
  for _, name in ipairs(redis.call('ZRANGE', ns .. 'schedulers', 0, -1)) do
    local found = redis.call('HMGET', ns .. 'scheduler:' .. name, 'digest', 'partial', 'number', 'place')
    local rank = {found[2] == '1' and 0 or 1, tonumber(found[3] or 0), tonumber(found[4] or 0)}
    if found[1] and (not best or is_higher(rank, best.rank)) then
      best = {digest = found[1], rank = rank}
    end
  end
  local current = current_set()
  if best and best.digest ~= current then
    switch(best.digest, current)
    return best.digest
  end
  return current
end

-- Where the store's clock was far ahead, and is no more, ticks that are to come were dealt with: those that have a run get
-- no other, and the rest are due again. Else nothing would fire until that time has come.
local function see_clock()
  local all = ns .. 'schedules'
  local seen = tonumber(redis.call('HGET', all, 'clock') or 0)
  if seen > now + BACK then
    local found = redis.call('HGETALL', STATES)
    for at = 1, #found, 2 do
      local state = state_of(found[at + 1])
      if state.last > now or state.success > now then
        state.last = math.min(state.last, now)
        state.success = state.success > now and 0 or state.success
        keep_state(found[at], state, true)
      end
    end
    for _, name in ipairs(redis.call('ZRANGE', ns .. 'schedulers', 0, -1)) do
      redis.call('ZADD', ns .. 'schedulers', 'LT', now + LIFE, name)
    end
    redis.call('HSET', all, 'floor', redis.call('HINCRBY', all, 'version', 1))
    redis.call('DEL', ns .. 'schedule_changes')
  elseif seen >= now then
    return
  end
  redis.call('HSET', all, 'clock', now)
end

-- Whether a scheduler is registered with this set.
local function lives(name, digest)
  return tonumber(redis.call('ZSCORE', ns .. 'schedulers', name) or 0) > now
    and redis.call('HGET', ns .. 'scheduler:' .. name, 'digest') == digest
end

-- It does for so long.
local function renew(name)
  redis.call('ZADD', ns .. 'schedulers', now + LIFE, name)
  redis.call('PEXPIRE', ns .. 'scheduler:' .. name, LIFE + SLACK)
end

local function keep_set(digest, current)
  if digest ~= current then
    redis.call('PEXPIRE', ns .. 'set:' .. digest, DAY)
  end
end
