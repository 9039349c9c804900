-- Ask for calls that are no runs. ARGV: lease in ms; function, slot, holder, how long it waits at most (ms), calls at once,
-- ms between two, burst, failures that open the breaker, ms until it lets one try, of each. Returns for each: in, wait, late or
-- open; ms; and whether it is the trial of a breaker, 1 or 0.
local WAIT = 1000 -- ms until a call that waits has to ask again
local lease = tonumber(ARGV[FIRST])
local answer = {}
local lanes = lanes()

-- A call that waits does so no more.
local function stop_waiting(fn, slot, holder)
  local was = redis.call('ZREM', key_of_two('callers:', fn, slot), holder) == 1
  redis.call('ZREM', key_of_two('asked:', fn, slot), holder)
  return was
end

-- Whether leases of any runs are over: reapers, while there are some, take those back at once. Asked once a script.
local late
local function are_late()
  if late == nil then
    late = false
    for _, q in ipairs(redis.call('SMEMBERS', ns .. 'queues')) do
      late = late or redis.call('ZCOUNT', ns .. 'leases:' .. q, '-inf', '(' .. now) > 0
    end
  end
  return late
end

-- Places of runs that are lost. There may be many, and calls that wait ask often.
local function lapsed(fn, slot)
  local count = 0
  for _, id in ipairs(are_late() and redis.call('SMEMBERS', key_of_two('places:', fn, slot)) or {}) do
    count = count + (lanes.is_lost(id) and 1 or 0)
  end
  return count
end

-- Those that have come first have the next places.
local function has_place(fn, slot, holder, most)
  local are_gone = lanes.forget_calls(fn, slot)
  if lanes.forget_callers(fn, slot) or are_gone then
    lanes.wake(fn, slot) -- nobody else is told that they are
  end
  local callers = key_of_two('callers:', fn, slot)
  local used = redis.call('SCARD', key_of_two('places:', fn, slot)) + redis.call('ZCARD', key_of_two('calls:', fn, slot))
  if used >= most and lanes.forget_stray(fn, slot) then
    used = used - 1
  end
  local before = redis.call('ZRANK', callers, holder) or redis.call('ZCARD', callers)
  return used + before < most or (before == 0 and used - lapsed(fn, slot) < most)
end

local function have_wait(fn, slot, holder)
  local callers, asked = key_of_two('callers:', fn, slot), key_of_two('asked:', fn, slot)
  redis.call('ZADD', callers, 'NX', number(), holder)
  redis.call('ZADD', asked, now + WAIT, holder)
  redis.call('PEXPIRE', callers, WAIT + SLACK)
  redis.call('PEXPIRE', asked, WAIT + SLACK)
end

-- What becomes of a call as far as its slot is bound, and ms.
local function look(fn, slot, holder, within, most, every, burst)
  if most > 0 and tonumber(redis.call('ZSCORE', key_of_two('calls:', fn, slot), holder) or 0) > now then
    return 'in', 0 -- the answer was lost
  elseif most > 0 and not has_place(fn, slot, holder, most) then
    have_wait(fn, slot, holder)
    return 'wait', 0
  end
  local wait, next_at = 0, nil
  if every > 0 then
    wait, next_at = lanes.look_at_rate(fn, slot, every, burst)
    if wait > math.min(within, lanes.RESERVED) then
      return 'late', wait
    end
    lanes.take_rate(fn, slot, next_at)
  end
  if most > 0 then
    lanes.hold_place(fn, slot, holder, lease + math.ceil(wait))
    stop_waiting(fn, slot, holder)
  end
  return 'in', wait
end

local function enter(at)
  local fn, slot, holder = unpack(ARGV, at, at + 2)
  local numbers = {}
  for place = at + 3, at + 8 do
    numbers[#numbers + 1] = tonumber(ARGV[place])
  end
  local within, most, every, burst, failures, reset = unpack(numbers)
  local breaker, when = 'yes', nil
  if failures > 0 then
    breaker, when = lanes.look_at_breaker(fn, reset)
  end
  local verdict, ms = 'open', when and when - now or WAIT
  if breaker ~= 'no' then
    verdict, ms = look(fn, slot, holder, within, most, every, burst)
  end
  if verdict == 'in' and breaker == 'trial' then
    lanes.begin_trial(fn, reset, holder, now + lease + math.ceil(ms))
  elseif (verdict == 'late' or verdict == 'open') and most > 0 and stop_waiting(fn, slot, holder) then
    lanes.wake(fn, slot)
  end
  return verdict, ms, verdict == 'in' and breaker == 'trial' and '1' or '0'
end

for at = FIRST + 1, #ARGV, 9 do
  local verdict, ms, trial = enter(at)
  answer[#answer + 1] = verdict
  answer[#answer + 1] = string.format('%.3f', ms)
  answer[#answer + 1] = trial
end
return answer
