-- Let a schedule fire no more; or again, from now on. ARGV: id, 1 to pause. Returns 1 if that is a change.
-- include: states schedules
local id, paused = ARGV[FIRST], ARGV[FIRST + 1] == '1'
local state, is_defined = find_state(id)
state = state or new_state()
if (state.paused > 0) == paused then
  return 0
end
state.paused = paused and now or 0
if not paused then
  begin_now(state)
end
keep_state(id, state, is_defined)
if not is_defined then -- its definition is to come
  redis.call('PEXPIRE', ns .. 'schedule:' .. id, ABSENT)
end
change(id)
return 1
