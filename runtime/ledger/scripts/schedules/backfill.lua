-- Make runs for ticks of the past. ARGV: id of the schedule, beginning of the runs' ids, what their notes say of a timeout, function,
-- queue, payload, age (ms, '' for any), how many may be at work ('' for all); ticks (ms). Returns how many of them are new, and
-- of how many there was a run.
-- include: runs ticks schedules schedules/runs
local id, head, timeout, fn, q, payload, age, most = unpack(ARGV, FIRST, FIRST + 7)
local added, known = 0, 0
local open, held = lane_of(id, 'backfill')
local at_work = count_open(open, id) - redis.call('ZCARD', held)
local state = find_state(id) or new_state()
block = 2 * (#ARGV - FIRST - 7)
for at = FIRST + 8, #ARGV do
  local run = head .. ARGV[at]
  if redis.call('EXISTS', ns .. 'run:' .. run) == 1 then
    known = known + 1
  else
    local waits = most ~= '' and at_work >= tonumber(most)
    add_tick({
      id = run, fn = fn, q = q, payload = payload, trigger = 'backfill', prio = 3, age = age, schedule = id, planned = ARGV[at]
    }, note_of(id, timeout, ARGV[at], 0, state.success), open, waits and held, most)
    at_work = waits and at_work or at_work + 1
    added = added + 1
  end
end
return {added, known}
