-- What is known of schedules, each as one text: its numbers, 8 bytes each (doubles, the high byte first), then its rule. In
-- one hash, so that many that fire together are read by one command, and written by another; and no digits, for to read and
-- write those takes as long as all else that is done to them.
--
-- schedule_states  hash by id, of those that are defined
-- schedule:{id}    the same text, of one that is defined nowhere any more, or not yet; it passes
--
-- last: ms up to which ticks are dealt with. paused: ms since when, 0 for not. since: ticks skipped since the last run.
-- success: planned ms of the latest that succeeded. runs missed overlap: ticks. last_run: planned ms. rule: which `last` is of.
local STATES = ns .. 'schedule_states'
local NUMBERS = '>dddddddd'
local RULE = 65 -- where it begins

-- Nil for what is none.
local function state_of(text)
  if not text then
    return nil
  end
  local last, paused, since, success, runs, missed, overlap, last_run = struct.unpack(NUMBERS, text)
  return {
    last = last, paused = paused, since = since, success = success, runs = runs, missed = missed, overlap = overlap,
    last_run = last_run, rule = string.sub(text, RULE)
  }
end

local function new_state()
  return {last = 0, paused = 0, since = 0, success = 0, runs = 0, missed = 0, overlap = 0, last_run = 0, rule = ''}
end

local function text_of(state)
  return struct.pack(
    NUMBERS, state.last, state.paused, state.since, state.success, state.runs, state.missed, state.overlap, state.last_run
  ) .. state.rule
end

-- Of a schedule: its state, and whether it is defined; nil if nothing is known.
local function find_state(id)
  local text = redis.call('HGET', STATES, id)
  if text then
    return state_of(text), true
  end
  return state_of(redis.call('MGET', ns .. 'schedule:' .. id)[1]), false
end

-- Keep one that was found.
local function keep_state(id, state, is_defined)
  if is_defined then
    redis.call('HSET', STATES, id, text_of(state))
  else
    redis.call('SET', ns .. 'schedule:' .. id, text_of(state), 'KEEPTTL')
  end
end
