-- One run at once. ARGV: id of the schedule, of the run, what its note says of a timeout, function, queue, payload, age (ms, '' for
-- any). Returns the id of the run.
-- include: runs ticks schedules schedules/runs
local id, run, timeout, fn, q, payload, age = unpack(ARGV, FIRST, FIRST + 6)
if redis.call('EXISTS', ns .. 'run:' .. run) == 0 then
  local state = find_state(id) or new_state()
  add_run({id = run, fn = fn, q = q, payload = payload, trigger = 'manual', prio = 5, age = age}, {
    'tick', note_of(id, timeout, string.format('%d', now), state.since, state.success)
  })
end
return run
