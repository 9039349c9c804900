-- Give a worker the most urgent runs of its queues. ARGV: worker, how many, lease in ms, queues.
-- Returns the fields of each run, one after the other; nil for a worker that has to register (again).
-- include: runs ends flows
local worker, left, lease = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local functions = ns .. 'worker:' .. worker
if tonumber(redis.call('ZSCORE', ns .. 'workers', worker) or 0) <= now or redis.call('EXISTS', functions) == 0 then
  return nil
end
local answer = {}
local leases = {}

block = math.min(left, 32)

local function hold(q)
  if #leases > 0 then
    redis.call('ZADD', ns .. 'leases:' .. q, unpack(leases))
    leases = {}
  end
end

local known = {}
local function knows(fn)
  if known[fn] == nil then
    known[fn] = redis.call('SISMEMBER', functions, fn) == 1
  end
  return known[fn]
end

-- Whether a step is not to run any more, since its flow has failed.
local function is_stopped(place)
  local flow, n = place_of(place)
  return redis.call('HGET', ns .. 'flow:' .. flow, 'stops') and flows().is_step_stopped(flow, n)
end

local function claim(q, id, fn, found)
  local token, failures, crashes, trigger, prio, accepted, due, expires, parent, trace, first, flow, tick = unpack(found, 2, 14)
  if flow and is_stopped(flow) then
    return close(id, fn, 'cancelled', 'cancelled', '', flow)
  elseif expires and token == '0' and now > tonumber(expires) then
    return close(id, fn, 'failed', 'expired', '', flow)
  end
  local run, input = keys_of(id)
  local fence = new_token()
  redis.call('HSET', run, 'state', 'running', 'token', fence, 'worker', worker, 'claimed', now)
  leases[#leases + 1] = now + lease
  leases[#leases + 1] = id
  if #leases == 1000 then
    hold(q)
  end
  left = left - 1
  for _, value in ipairs({
    id, fn, q, fence, redis.call('GET', input) or '', failures or 0, crashes or 0, trigger, prio, accepted, first or due, now,
    expires or '', parent or '', trace or '', tick or ''
  }) do
    answer[#answer + 1] = value
  end
end

-- Take the run, or put it where workers that know its function look.
local function take(q, id, score)
  local found = redis.call(
    'HMGET', ns .. 'run:' .. id, 'fn', 'token', 'failures', 'crashes', 'trigger', 'prio', 'accepted', 'due', 'expires',
    'parent', 'trace', 'first', 'flow', 'tick'
  )
  local fn = found[1]
  if not fn then
    return
  end
  if knows(fn) then
    return claim(q, id, fn, found)
  end
  redis.call('ZADD', key_of_two('wait:', q, fn), score, id)
  redis.call('ZADD', ns .. 'unknown:' .. q, now + PATIENCE, id)
  redis.call('SADD', ns .. 'waiting:' .. q, fn)
  ring(q)
end

-- The most urgent of several sets: they are few, and hold few.
local function take_merged(q, waits)
  local heads = {}
  waits[#waits + 1] = {ns .. 'ready:' .. q}
  for _, source in ipairs(waits) do
    local found = redis.call('ZRANGE', source[1], 0, left - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      heads[#heads + 1] = {tonumber(found[i + 1]), found[i], source[2]}
    end
  end
  table.sort(heads, function(a, b) return a[1] < b[1] or (a[1] == b[1] and less(a[2], b[2])) end)
  for i = 1, math.min(left, #heads) do
    local score, id, fn = unpack(heads[i])
    if fn then
      leave_wait(id, q, fn)
    else
      redis.call('ZREM', ns .. 'ready:' .. q, id)
    end
    take(q, id, score)
  end
  return #heads
end

local function serve(q)
  local looked = 0
  while left > 0 and looked < 1000 do
    local waits = {}
    for _, fn in ipairs(redis.call('SMEMBERS', ns .. 'waiting:' .. q)) do
      if knows(fn) then
        waits[#waits + 1] = {key_of_two('wait:', q, fn), fn}
      end
    end
    local count
    if #waits > 0 then
      count = take_merged(q, waits)
    else
      local found = redis.call('ZPOPMIN', ns .. 'ready:' .. q, left)
      count = #found / 2
      for i = 1, #found, 2 do
        take(q, found[i], found[i + 1])
      end
    end
    if count == 0 then
      return
    end
    looked = looked + count
  end
  if redis.call('EXISTS', ns .. 'ready:' .. q) == 1 then
    ring(q) -- for another worker
  end
end

for at = FIRST + 3, #ARGV do
  if left > 0 and redis.call('SISMEMBER', ns .. 'paused', ARGV[at]) == 0 then
    serve(ARGV[at])
    hold(ARGV[at])
  end
end
go_on()
return answer
