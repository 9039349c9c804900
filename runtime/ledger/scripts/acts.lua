-- What is done to runs: they are handed back, stopped, run again. Behind ends.lua.

-- A run that is at work goes back to its queue, as if it had not been claimed. Whether it is there.
local function hand_back(id, q)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'fn', 'prio', 'cancel', 'flow', 'key', 'slot', 'breaker')
  redis.call('ZREM', ns .. 'leases:' .. q, id)
  free_place(id, found[1], found[6], found[7], 'none')
  if found[3] then
    close(id, found[1], 'cancelled', 'cancelled', '', found[4])
    return false
  end
  redis.call('HSET', run, 'state', 'queued', 'token', new_token()) -- whoever still runs it may not finish it
  make_ready(id, q, tonumber(found[2]), true, found[1], found[5])
  return true
end

-- A run that is queued waits for no limits any more.
local function leave_limits(id, q, fn)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'prio', 'key')
  if found[2] then
    lanes().leave(id, q, found[1], fn, found[2])
  end
end

-- Have an open run end: at once if it waits; else its worker hears of it at its next beat.
local function stop_run(id, state, fn, q, flow)
  if state == 'running' then
    redis.call('HSET', ns .. 'run:' .. id, 'cancel', 1)
    return 'cancelling'
  end
  redis.call('ZREM', ns .. 'ready:' .. q, id)
  redis.call('ZREM', ns .. 'due:' .. q, id)
  leave_wait(id, q, fn)
  leave_limits(id, q, fn)
  close(id, fn, 'cancelled', 'cancelled', '', flow)
  return 'cancelled'
end

-- A finished run is open again: its record, without its end. state: the new one.
local function reopen(id, fn, state)
  local run, input, output, log, progress = keys_of(id)
  redis.call('ZREM', ns .. 'dead:' .. fn, id)
  redis.call('ZREM', ns .. 'done:' .. fn, id)
  redis.call('HDEL', run, 'reason', 'finished', 'failures', 'crashes', 'shared', 'losses', 'expires', 'first', 'called', 'out')
  redis.call('HSET', run, 'state', state, 'due', now)
  redis.call('HINCRBY', run, 'redriven', 1)
  redis.call('DEL', output, progress)
  redis.call('PERSIST', run)
  redis.call('PERSIST', input)
  redis.call('PERSIST', log)
  redis.call('PEXPIRE', ns .. 'lines:' .. id, LONGEST)
  redis.call('ZADD', ns .. 'open:' .. fn, stamp(), id)
  if is_tick(id) then
    reopen_tick(id)
  end
end

-- Run a finished run again, with the payload it had.
local function run_again(id, fn, q, prio)
  reopen(id, fn, 'queued')
  make_ready(id, q, tonumber(prio), false, fn, redis.call('HGET', ns .. 'run:' .. id, 'key'))
end
