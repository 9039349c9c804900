-- Move what its time has come for: due runs, lost leases, runs that nobody knows, limits, what is left to be done in
-- flows.
-- ARGV: how many of each in a queue; when the caller was last answered (ms, 0 if it never was), and for how long it need not
-- have been. Returns how many were moved, now, and of each attempt whose worker was lost: function, trigger, ms since it was
-- claimed, whether the run goes on.
-- include: runs ends flows
local most = ARGV[FIRST]
local answered, patience = tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local count = 0
local answer = {0, now} -- of thousands: more than `unpack` takes

local function over(key)
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, most)
  if #ids > 0 then
    redis.call('ZREM', key, unpack(ids))
  end
  count = count + #ids
  return ids
end

local function take_back(id, q)
  local run = keys_of(id)
  local found = redis.call(
    'HMGET', run, 'state', 'fn', 'prio', 'cancel', 'token', 'claimed', 'worker', 'failures', 'flow', 'key', 'slot',
    'breaker', 'trigger'
  )
  if found[1] ~= 'running' then
    return
  end
  note_attempt(id, cjson.encode({
    attempt = (found[8] or 0) + 1, token = tonumber(found[5]), state = 'crashed', began = tonumber(found[6]) / 1000,
    finished = now / 1000, worker = found[7]
  }))
  free_place(id, found[2], found[11], found[12], 'none')
  local goes_on = false
  if found[4] then
    close(id, found[2], 'cancelled', 'cancelled', '', found[9])
  elseif not note_crash(id, found[2], true, found[9]) then
    goes_on = true
    redis.call('HSET', run, 'state', 'queued')
    make_ready(id, q, tonumber(found[3]), true, found[2], found[10])
  end
  for _, one in ipairs({found[2], found[13], now - found[6], goes_on and 1 or 0}) do
    answer[#answer + 1] = one
  end
end

redis.call('ZREMRANGEBYSCORE', ns .. 'workers', '-inf', now)
local living = redis.call('ZRANGE', ns .. 'workers', 0, -1)
local known = {}

local function is_known(fn)
  for _, worker in ipairs(known[fn] == nil and living or {}) do
    known[fn] = known[fn] or redis.call('SISMEMBER', ns .. 'worker:' .. worker, fn) == 1
  end
  return known[fn]
end

local function judge_unknown(id, q)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'fn', 'flow', 'prio', 'key')
  local fn = found[1]
  if not fn then
    return
  end
  if #living == 0 or is_known(fn) then
    redis.call('ZADD', ns .. 'unknown:' .. q, now + PATIENCE, id)
  else
    leave_wait(id, q, fn)
    if found[4] then
      lanes().leave(id, q, found[3], fn, found[4])
      lanes().call_back(lanes().of(q, found[3], fn), q, most) -- nobody lets them begin: they end as this one does
    end
    close(id, fn, 'failed', 'unknown function', cjson.encode({
      type = 'UnknownFunction', traceback = '', message = 'no worker knows the function ' .. fn
    }), found[2])
  end
end

-- Sent before the server stood still, and read now: beats that were sent then may be read a moment later.
local is_late = answered > 0 and now - answered > patience

for _, q in ipairs(redis.call('SMEMBERS', ns .. 'queues')) do
  for _, id in ipairs(over(ns .. 'due:' .. q)) do
    local found = redis.call('HMGET', ns .. 'run:' .. id, 'prio', 'fn', 'key')
    if found[1] then
      redis.call('HSET', ns .. 'run:' .. id, 'state', 'queued')
      make_ready(id, q, tonumber(found[1]), false, found[2], found[3])
    end
  end
  for _, id in ipairs(is_late and {} or over(ns .. 'leases:' .. q)) do
    take_back(id, q)
  end
  for _, id in ipairs(over(ns .. 'unknown:' .. q)) do
    judge_unknown(id, q)
  end
end
for _, text in ipairs(over(ns .. 'until')) do
  lanes().look_again(string.sub(text, 1, 1), string.sub(text, 2))
end
go_on()
if redis.call('EXISTS', ns .. 'flows') == 1 then
  count = count + flows().go_on_with_rest()
end
answer[1] = count
return answer
