-- Have ticks become runs. ARGV: scheduler, digest, then as MessagePack: what schedules have in common (lists of: rule, function,
-- queue, payload, trigger, age (ms, '' for any), overlap, what the runs' notes say of a timeout), and firings, which are lists.
-- Of one schedule: which of those, id, beginning of the runs' ids, last (ms) that the scheduler knows, until when (ms) these
-- are all, ticks missed after these; then of each tick: ms (as text), ms that it begins later, ticks missed before it. Or of
-- many that have one tick each, at one time: less than 0 for which, last, that time (ms, as text); then of each: id, id of
-- the run. Returns verdict, last, runs, behind its place (from 1), of each that was not simply fired as it was asked
-- for; nil for a scheduler that may not fire.
-- include: runs ticks schedules schedules/runs
local EARLY = 1000 -- ms that a scheduler's clock may be ahead
local HELD = 100 -- ticks that wait for others, at most
local SKIPS = 20 -- remembered
local TICKS, TICK = 7, 3 -- where they begin, values of one
local MEMBERS = 4 -- where the schedules of many begin
local scheduler, digest = ARGV[FIRST], ARGV[FIRST + 1]
if current_set() ~= digest or not lives(scheduler, digest) then
  return nil
end
local common, firings = unpack(cmsgpack.unpack(ARGV[FIRST + 2]), 1, 2)

-- What is known of each schedule, as it is kept, and as it changes here: one may come twice. changed: ids, and what is to be
-- kept of them. at_work: how many are, where that was counted: the store does not count yet what is gathered here.
local texts, changed, kept, at_work = {}, {}, 0, {}
do
  local ids, count, ticks = {}, 0, 0
  for _, firing in ipairs(firings) do
    local is_group = firing[1] < 0
    for at = is_group and MEMBERS or 2, is_group and #firing or 2, 2 do
      count = count + 1
      ids[count] = firing[at]
    end
    ticks = ticks + (is_group and (#firing - MEMBERS + 1) / 2 or (#firing - TICKS + 1) / TICK)
  end
  local found = read_many(STATES, ids)
  for at, id in ipairs(ids) do
    texts[id] = found[at]
  end
  block = 2 * math.max(1, ticks)
end

-- Ticks that are not run. Those that follow on each other for the same reason are told of as one.
local function skip(state, count, planned, why)
  if count > 0 then
    state.skips = state.skips or {}
    local last = state.skips[#state.skips]
    if last and last.why == why and last.runs == state.runs then
      last.count, last.planned = last.count + count, planned
    else
      state.skips[#state.skips + 1] = {count = count, planned = planned, why = why, runs = state.runs}
    end
    state[why] = state[why] + count
    state.since = state.since + count
  end
end

local function note_run(state, planned)
  state.runs, state.since, state.last_run = state.runs + 1, 0, planned
end

local function tell_skips(id, state)
  local key, told = ns .. 'skips:' .. id, {}
  for at = math.max(1, #state.skips - SKIPS + 1), #state.skips do
    local one = state.skips[at]
    told[#told + 1] = string.format('%d:%d:%s', one.planned, one.count, one.why)
  end
  redis.call('LPUSH', key, unpack(told))
  redis.call('LTRIM', key, 0, SKIPS - 1)
  redis.call('PEXPIRE', key, ABSENT)
end

local function keep(id, text)
  changed[kept + 1], changed[kept + 2] = id, text
  kept = kept + 2
  texts[id] = text
end

local function verdict_on(state, rule, last, upto)
  if not state or state.rule ~= rule then
    return 'gone'
  elseif state.last ~= last then
    return 'stale'
  elseif upto > now + EARLY then
    return 'early'
  end
  return state.paused > 0 and 'paused' or 'fired'
end

-- What schedules have in common; and one table for all their runs, which are recorded one after the other.
for at, found in ipairs(common) do
  local rule, fn, q, payload, kind, age, overlap, timeout = unpack(found, 1, 8)
  common[at] = {
    rule = rule, timeout = timeout, overlap = overlap, counts = overlap ~= 'allow',
    most = overlap == 'allow' and math.huge or tonumber(overlap) or 1,
    run = {fn = fn, q = q, payload = payload, trigger = kind, prio = '5', age = age}
  }
end

local function count_work(id, shared)
  return shared.counts and (at_work[id] or count_open(ns .. 'ticks', id)) or 0
end

local function fire(firing)
  local which, id, head, last, upto, after = unpack(firing, 1, TICKS - 1)
  local shared = common[which]
  local overlap, most, run = shared.overlap, shared.most, shared.run
  local state = state_of(texts[id]) or find_state(id)
  local verdict = verdict_on(state, shared.rule, last, upto)
  if verdict ~= 'fired' then
    return verdict, state and state.last or 0, 0
  end
  upto = math.max(upto, last)
  local before = state.runs
  local open, held = lane_of(id, run.trigger)
  local working = #firing >= TICKS and count_work(id, shared) or 0
  for at = TICKS, #firing, TICK do
    local planned, later, missed = firing[at], firing[at + 1], firing[at + 2]
    local name = head .. planned
    skip(state, missed, planned, 'missed')
    local is_full = working >= most
    local waits = is_full and overlap == 'queue' and redis.call('ZCARD', held) < HELD
    if redis.call('EXISTS', ns .. 'run:' .. name) == 1 then
      note_run(state, tonumber(planned))
    elseif is_full and not waits then
      skip(state, 1, planned, 'overlap')
    else
      run.id, run.schedule, run.planned, run.due = name, id, planned, math.max(now, planned + later)
      add_tick(run, note_of(id, shared.timeout, planned, state.since, state.success), open, waits and held, 1)
      working = working + 1
      note_run(state, tonumber(planned))
    end
  end
  at_work[id] = #firing >= TICKS and working or at_work[id]
  skip(state, after, upto, 'missed')
  if state.skips then
    tell_skips(id, state)
  end
  state.last = upto
  keep(id, text_of(state))
  return verdict, upto, state.runs - before
end

-- include: schedules/plain
gather()
local answer, fault, place = {}, nil, 0

-- Fire one of those in their order. Told is what is not as it was asked for.
local function fire_next(firing)
  gather_plain()
  place = place + 1
  local verdict, last, runs = fire(firing)
  if verdict ~= 'fired' or last ~= firing[5] or runs ~= (#firing - TICKS + 1) / TICK then
    local count = #answer
    answer[count + 1], answer[count + 2], answer[count + 3], answer[count + 4] = place, verdict, last, runs
  end
end

local function fire_many(firing)
  local which, last, planned = -firing[1], firing[2], firing[3]
  local shared, upto = common[which], tonumber(planned)
  local plans = {} -- by what is known of a schedule: of most that is the same
  for at = MEMBERS, #firing, 2 do
    local id, name = firing[at], firing[at + 1]
    local text = texts[id]
    local plan = plans[text]
    if plan == nil then
      plan = plan_of(shared, text, last, upto, planned)
      plans[text] = plan
    end
    if fire_plain(shared, plan, id, name, planned) then
      place = place + 1
    else
      fire_next({which, id, string.sub(name, 1, -1 - #planned), last, upto, 0, planned, 0, 0})
    end
  end
end

for _, firing in ipairs(firings) do
  local is_good, found = pcall(firing[1] < 0 and fire_many or fire_next, firing)
  gather_plain()
  fault = is_good and fault or found
end
write_gathered() -- in any case: these runs have been recorded
send_many('HSET', STATES, changed)
if fault then
  return redis.error_reply(type(fault) == 'table' and fault.err or fault)
end
return answer
