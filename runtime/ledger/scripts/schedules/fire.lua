-- Have ticks become runs. ARGV: scheduler, digest; of each schedule: id, rule, last (ms) that the scheduler knows, until when
-- (ms) these are all, beginning of the runs' ids, beginning of their notes (JSON), function, queue, payload, trigger, age (ms,
-- '' for any), overlap, ticks missed after these, how many these are, and of each: ms, ms that it begins later, ticks missed
-- before it. Returns verdict, last, runs of each; nil for a scheduler that may not fire.
-- include: runs ticks schedules schedules/runs
local HEAD = 14
local EARLY = 1000 -- ms that a scheduler's clock may be ahead
local HELD = 100 -- ticks that wait for others, at most
local SKIPS = 20 -- remembered
local FIELDS = {'rule', 'last', 'paused', 'since', 'success', 'runs', 'missed', 'overlapped', 'last_run'}
local scheduler, digest = ARGV[FIRST], ARGV[FIRST + 1]
if current_set() ~= digest or not lives(scheduler, digest) then
  return nil
end
block = 2 * math.ceil((#ARGV - FIRST - 1) / (HEAD + 3)) -- most fire one tick each

-- What is written at the end of a firing.
local function begin(id, found)
  return {
    id = id, since = tonumber(found[4] or 0), success = found[5], runs = tonumber(found[6] or 0),
    missed = tonumber(found[7] or 0), overlap = tonumber(found[8] or 0), last_run = found[9] or '', skips = {}
  }
end

-- Ticks that are not run. Those that follow on each other for the same reason are told of as one.
local function skip(state, count, planned, why)
  if count > 0 then
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

local function finish(state, upto)
  redis.call(
    'HSET', ns .. 'schedule:' .. state.id, 'last', upto, 'since', state.since, 'runs', state.runs, 'missed', state.missed,
    'overlapped', state.overlap, 'last_run', state.last_run
  )
  local told = {}
  for at = math.max(1, #state.skips - SKIPS + 1), #state.skips do
    local one = state.skips[at]
    told[#told + 1] = string.format('%s:%d:%s', one.planned, one.count, one.why)
  end
  if #told > 0 then
    local key = ns .. 'skips:' .. state.id
    redis.call('LPUSH', key, unpack(told))
    redis.call('LTRIM', key, 0, SKIPS - 1)
    redis.call('PEXPIRE', key, ABSENT)
  end
end

local function verdict_on(found, rule, before, upto)
  if found[1] ~= rule then
    return 'gone'
  elseif tonumber(found[2]) ~= tonumber(before) then
    return 'stale'
  elseif tonumber(upto) > now + EARLY then
    return 'early'
  end
  return found[3] and 'paused' or 'fired'
end

local function fire(at)
  local id, rule, before, upto, head, note, fn, q, payload, kind, age, overlap, after, count = unpack(ARGV, at, at + HEAD - 1)
  local found = redis.call('HMGET', ns .. 'schedule:' .. id, unpack(FIELDS))
  local verdict = verdict_on(found, rule, before, upto)
  if verdict ~= 'fired' then
    return verdict, found[2] or 0, 0
  end
  local state = begin(id, found)
  local open, held = lane_of(id, kind)
  local most = overlap == 'allow' and math.huge or tonumber(overlap) or 1
  local at_work = overlap == 'allow' and 0 or redis.call('ZCARD', open)
  local first = state.runs
  for each = at + HEAD, at + HEAD + 3 * count - 1, 3 do
    local planned, later, missed = ARGV[each], ARGV[each + 1], tonumber(ARGV[each + 2])
    local run = head .. planned
    skip(state, missed, planned, 'missed')
    local is_full = at_work >= most
    local waits = is_full and overlap == 'queue' and redis.call('ZCARD', held) < HELD
    if redis.call('EXISTS', ns .. 'run:' .. run) == 1 then
      state.runs, state.since, state.last_run = state.runs + 1, 0, run
    elseif is_full and not waits then
      skip(state, 1, planned, 'overlap')
    else
      add_tick({
        id = run, fn = fn, q = q, payload = payload, trigger = kind, prio = 5, age = age,
        due = string.format('%d', math.max(now, planned + later)), schedule = id, planned = planned
      }, note_of(note, planned, state), waits and held, 1)
      at_work = at_work + 1
      state.runs, state.since, state.last_run = state.runs + 1, 0, run
    end
  end
  skip(state, tonumber(after), upto, 'missed')
  finish(state, upto)
  return verdict, upto, state.runs - first
end

local answer, at = {}, FIRST + 2
while at <= #ARGV do
  local verdict, last, runs = fire(at)
  answer[#answer + 1] = verdict
  answer[#answer + 1] = last
  answer[#answer + 1] = runs
  at = at + HEAD + 3 * ARGV[at + HEAD - 1]
end
return answer
