-- Have ticks become runs. ARGV: scheduler, digest, then as MessagePack: what schedules have in common (lists of: rule, function,
-- queue, payload, trigger, age (ms, '' for any), overlap, what the runs' notes say of a timeout), and firings, lists of: which
-- of those, id, beginning of the runs' ids, last (ms) that the scheduler knows, until when (ms) these are all, ticks missed
-- after these; then of each tick: ms (as text), ms that it begins later, ticks missed before it. Returns verdict, last, runs
-- of each; nil for a scheduler that may not fire.
-- include: runs ticks schedules schedules/runs
local EARLY = 1000 -- ms that a scheduler's clock may be ahead
local HELD = 100 -- ticks that wait for others, at most
local SKIPS = 20 -- remembered
local TICKS, TICK = 7, 3 -- where they begin, values of one
local scheduler, digest = ARGV[FIRST], ARGV[FIRST + 1]
if current_set() ~= digest or not lives(scheduler, digest) then
  return nil
end
local common, firings = unpack(cmsgpack.unpack(ARGV[FIRST + 2]), 1, 2)

-- Few ticks have a run already, so all are asked for at once.
local are_new = true
do
  local keys = {}
  for _, firing in ipairs(firings) do
    local head = ns .. 'run:' .. firing[3]
    for at = TICKS, #firing, TICK do
      keys[#keys + 1] = head .. firing[at]
    end
  end
  for at = 1, #keys, MANY do
    are_new = are_new and redis.call('EXISTS', unpack(keys, at, math.min(#keys, at + MANY - 1))) == 0
  end
  block = 2 * math.max(1, #keys)
end

-- What is known of each, as it changes here; a schedule may come twice. changed: ids, and what is to be kept of them.
local states, changed = {}, {}
do
  local ids = {}
  for at, firing in ipairs(firings) do
    ids[at] = firing[2]
  end
  local found = read_many(STATES, ids)
  for at, id in ipairs(ids) do
    states[id] = state_of(found[at]) or find_state(id)
  end
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

local function close_state(id, state, upto)
  if state.skips then
    tell_skips(id, state)
    state.skips = nil
  end
  state.last = upto
  local count = #changed
  changed[count + 1] = id
  changed[count + 2] = text_of(state)
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
    rule = rule, timeout = timeout, overlap = overlap, most = overlap == 'allow' and math.huge or tonumber(overlap) or 1,
    run = {fn = fn, q = q, payload = payload, trigger = kind, prio = '5', age = age}
  }
end

local function fire(firing)
  local which, id, head, last, upto, after = unpack(firing, 1, TICKS - 1)
  local shared = common[which]
  local overlap, most, run = shared.overlap, shared.most, shared.run
  local state = states[id]
  local verdict = verdict_on(state, shared.rule, last, upto)
  if verdict ~= 'fired' then
    return verdict, state and state.last or 0, 0
  end
  upto = math.max(upto, last)
  local before = state.runs
  local open, held = lane_of(id, run.trigger)
  local counts_open = overlap ~= 'allow' and #firing >= TICKS
  local at_work = counts_open and (state.at_work or count_open(open, id)) or 0
  for at = TICKS, #firing, TICK do
    local planned, later, missed = firing[at], firing[at + 1], firing[at + 2]
    local name = head .. planned
    skip(state, missed, planned, 'missed')
    local is_full = at_work >= most
    local waits = is_full and overlap == 'queue' and redis.call('ZCARD', held) < HELD
    if not are_new and redis.call('EXISTS', ns .. 'run:' .. name) == 1 then
      note_run(state, tonumber(planned))
    elseif is_full and not waits then
      skip(state, 1, planned, 'overlap')
    else
      run.id, run.schedule, run.planned, run.due = name, id, planned, math.max(now, planned + later)
      add_tick(run, note_of(id, shared.timeout, planned, state), open, waits and held, 1)
      at_work = at_work + 1
      note_run(state, tonumber(planned))
    end
  end
  if counts_open then
    state.at_work = at_work -- what is gathered is not counted by the store yet
  end
  skip(state, after, upto, 'missed')
  close_state(id, state, upto)
  return verdict, upto, state.runs - before
end

gather()
local answer, fault = {}, nil
for at, firing in ipairs(firings) do
  local is_good, verdict, last, runs = pcall(fire, firing)
  if not is_good then
    fault = verdict
    states[firing[2]] = nil -- what has become of it so far is not kept
  end
  answer[3 * at - 2], answer[3 * at - 1], answer[3 * at] = verdict, last, runs
end
write_gathered() -- in any case: these runs have been recorded
send_many('HSET', STATES, changed)
if fault then
  return redis.error_reply(type(fault) == 'table' and fault.err or fault)
end
return answer
