-- Write how attempts ended. ARGV: as MessagePack, a list of: id, token, state, reason, result, failure, entry for the log
-- ('' for a good one), ms to the next attempt, progress (the reason of a good one: why it fell back), verdict, lease of what
-- goes on of it (ms, 0 for nothing) of each.
-- waiting: its handler was not called, for another call with its key is under way; no attempt. lost: its worker ends itself.
-- Returns 1 for each that was written, 0 for one whose token is stale.
-- include: runs ends flows once
local endings = cmsgpack.unpack(ARGV[FIRST])
local answer, at_work, leases = {}, {}, {}
block = math.max(1, #endings)

-- The leases go first, those of a queue at once: a store that is full lets a script go on that begins with what takes no
-- memory.
local valid = {}
for at, ending in ipairs(endings) do
  local id, token = ending[1], ending[2]
  local found = redis.call(
    'HMGET', ns .. 'run:' .. id, 'token', 'state', 'fn', 'q', 'cancel', 'due', 'flow', 'once', 'slot', 'breaker', 'lines',
    'callback', 'failures', 'crashes', 'redriven', 'in'
  )
  if found[1] == token and found[2] == 'running' and not valid[id] then
    local ids = leases[found[4]] or {}
    leases[found[4]], ids[#ids + 1] = ids, id
    valid[id], at_work[at] = true, found
  end
  answer[#answer + 1] = at_work[at] and 1 or 0
end
for q, ids in pairs(leases) do
  send_all('ZREM', ns .. 'leases:' .. q, ids)
end

-- A good one that was stopped meanwhile is told of all the same.
local function entry_of_good(id, token)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'failures', 'claimed', 'worker')
  return cjson.encode({
    attempt = (found[1] or 0) + 1, token = tonumber(token), state = 'succeeded', began = tonumber(found[2]) / 1000,
    finished = now / 1000, worker = found[3]
  })
end

local function look_again_later(id, q, state, pause, due)
  local run, at = ns .. 'run:' .. id, now + pause
  redis.call('HSETNX', run, 'first', due)
  redis.call('HSET', run, 'state', state, 'due', at)
  redis.call('ZADD', ns .. 'due:' .. q, at, id)
end

local function finish(ending, found)
  local id, token, state, reason, result, failure, entry, pause, progress, verdict, lease = unpack(ending, 1, 11)
  local _, _, fn, q, cancel, due, flow, once, slot, breaker, lines = unpack(found, 1, 11)
  local is_plain = state == 'succeeded' and reason == '' and not cancel
  read_callbacks[id] = found[12]
  free_place(id, fn, slot, breaker, verdict, lease > 0 and id .. ':' .. token, lease)
  if state ~= 'waiting' and not is_plain then
    note_attempt(id, entry ~= '' and entry or entry_of_good(id, token))
  end
  if progress ~= '' then
    redis.call('SET', ns .. 'progress:' .. id, progress, 'PX', LONGEST)
  end
  if cancel then
    close(id, fn, 'cancelled', 'cancelled', '', flow)
  elseif state == 'crashed' or state == 'lost' then
    if not note_crash(id, fn, state == 'lost', flow) then
      look_again_later(id, q, 'retrying', pause, due)
    end
  elseif state == 'waiting' then
    look_again_later(id, q, 'scheduled', pause, due)
  elseif state == 'retrying' then
    redis.call('HINCRBY', ns .. 'run:' .. id, 'failures', 1)
    redis.call('SET', ns .. 'out:' .. id, failure)
    look_again_later(id, q, 'retrying', pause, due)
  elseif is_plain then
    local is_bare = #result <= SHORT and found[16] and not (found[13] or found[14] or found[15])
    close(id, fn, 'succeeded', '', result, flow, is_bare)
    if once then -- a fallback is no outcome for others
      settle_once(once, id, result)
    end
  else
    if state == 'failed' then
      redis.call('HINCRBY', ns .. 'run:' .. id, 'failures', 1)
    end
    close(id, fn, state, state == 'succeeded' and '' or reason, state == 'succeeded' and result or failure, flow)
  end
  if lines then -- what it has logged goes with it
    local left = redis.call('PTTL', ns .. 'run:' .. id)
    redis.call('PEXPIRE', ns .. 'lines:' .. id, left > 0 and left or LONGEST)
  end
end

-- One that cannot be written holds up no other: it has a lease again, and the reaper takes it back.
local fault
gather_ends()
for at, ending in ipairs(endings) do
  if at_work[at] then
    local is_good, found = pcall(finish, ending, at_work[at])
    if not is_good then
      fault = found
      redis.call('ZADD', ns .. 'leases:' .. at_work[at][4], now, ending[1])
    end
  end
end
write_ends()
go_on()
if fault then
  return redis.error_reply(type(fault) == 'table' and fault.err or fault)
end
return answer
