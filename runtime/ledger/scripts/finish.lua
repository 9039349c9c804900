-- Write how attempts ended. ARGV: id, token, state, reason, result, failure, entry for the log, ms to the next attempt,
-- progress (the reason of a good one: why it fell back), verdict, lease of what goes on of it (ms, 0 for nothing) of each.
-- waiting: its handler was not called, for another call with its key is under way; no attempt. lost: its worker ends itself.
-- Returns 1 for each that was written, 0 for one whose token is stale.
-- include: runs ends flows once
local answer = {}
block = math.ceil((#ARGV - FIRST + 1) / 11)
for at = FIRST, #ARGV, 11 do
  local id, token, state, reason, result, failure, entry, pause, progress = unpack(ARGV, at, at + 8)
  local verdict, lease = ARGV[at + 9], tonumber(ARGV[at + 10])
  local run, _, output = keys_of(id)
  local found = redis.call(
    'HMGET', run, 'token', 'state', 'fn', 'q', 'prio', 'cancel', 'due', 'flow', 'once', 'slot', 'breaker',
    'lines', 'callback'
  )
  local fn, q, flow = found[3], found[4], found[8]
  local valid = found[1] == token and found[2] == 'running'
  if valid then
    read_callbacks[id] = found[13]
    redis.call('ZREM', ns .. 'leases:' .. q, id)
    free_place(id, fn, found[10], found[11], verdict, lease > 0 and id .. ':' .. token, lease)
    if state ~= 'waiting' and (found[6] or state ~= 'succeeded' or reason ~= '') then
      note_attempt(id, entry)
    end
    if progress ~= '' then
      redis.call('SET', ns .. 'progress:' .. id, progress, 'PX', LONGEST)
    end
    if found[6] then
      close(id, fn, 'cancelled', 'cancelled', '', flow)
    elseif state == 'crashed' or state == 'lost' then
      if not note_crash(id, fn, state == 'lost', flow) then
        local due = now + tonumber(pause)
        redis.call('HSETNX', run, 'first', found[7])
        redis.call('HSET', run, 'state', 'retrying', 'due', due)
        redis.call('ZADD', ns .. 'due:' .. q, due, id)
      end
    elseif state == 'waiting' then
      local due = now + tonumber(pause)
      redis.call('HSETNX', run, 'first', found[7])
      redis.call('HSET', run, 'state', 'scheduled', 'due', due)
      redis.call('ZADD', ns .. 'due:' .. q, due, id)
    elseif state == 'retrying' then
      local due = now + tonumber(pause)
      redis.call('HINCRBY', run, 'failures', 1)
      redis.call('HSETNX', run, 'first', found[7])
      redis.call('HSET', run, 'state', 'retrying', 'due', due)
      redis.call('SET', output, failure)
      redis.call('ZADD', ns .. 'due:' .. q, due, id)
    else
      if state == 'failed' then
        redis.call('HINCRBY', run, 'failures', 1)
      end
      local good = state == 'succeeded'
      close(id, fn, state, good and '' or reason, good and result or failure, flow)
      if good and reason == '' and found[9] then -- a fallback is no outcome for others
        settle_once(found[9], id, result)
      end
    end
    if found[12] then -- what it has logged goes with it
      local left = redis.call('PTTL', run)
      redis.call('PEXPIRE', ns .. 'lines:' .. id, left > 0 and left or LONGEST)
    end
  end
  answer[#answer + 1] = valid and 1 or 0
end
go_on()
return answer
