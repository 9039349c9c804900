-- Give a worker the most urgent runs of its queues. ARGV: worker, how many, lease in ms, queues.
-- Returns the runs as MessagePack, the fields of each as records.Claimed has them; nil for a worker that has to register (again).
-- include: runs ends flows
local worker, left, lease = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local functions = ns .. 'knows:' .. worker
if tonumber(redis.call('ZSCORE', ns .. 'workers', worker) or 0) <= now or redis.call('EXISTS', functions) == 0 then
  return nil
end
local answer = {}
local leases = {}

-- Bytes as MessagePack: cmsgpack knows text alone.
local function binary(text)
  local size = #text
  if size < 256 then
    return '\196' .. string.char(size) .. text
  elseif size < 65536 then
    return '\197' .. struct.pack('>I2', size) .. text
  end
  return '\198' .. struct.pack('>I4', size) .. text
end

block = math.min(left, 32)

local function hold(q)
  if #leases > 0 then
    redis.call('ZADD', ns .. 'leases:' .. q, unpack(leases))
    leases = {}
  end
end

-- What the worker knows of a function: limits, false for none; false for a function it does not know.
local known = {}
local function look_up(fn)
  if known[fn] == nil then
    local text = redis.call('HGET', functions, fn)
    known[fn] = text and {limits = text ~= '' and cjson.decode(text)}
  end
  return known[fn]
end

local turns_made
local function turns()
  if not turns_made then
    turns_made = (function()
      -- include: limits/turns
      return {run_of_turn = run_of_turn, refill_line = refill_line, is_tired = is_tired}
    end)()
  end
  return turns_made
end

-- Whether this script gives no more runs: it has enough of them, or has looked at so many that could not begin that others
-- are to have the store.
local LOOKED = 1000
local looked = 0
local function is_done()
  return left <= 0 or looked >= LOOKED or (turns_made and turns_made.is_tired())
end

-- Whether a step is not to run any more, since its flow has failed.
local function is_stopped(place)
  local flow, n = place_of(place)
  return redis.call('HGET', ns .. 'flow:' .. flow, 'stops') and flows().is_step_stopped(flow, n)
end

-- found: fields of the run. grant: what limits say of it, as in limits/turns.lua; nil if there are none. place: in line.
local function claim(q, id, fn, found, grant, place)
  local token, failures, crashes, trigger, prio, accepted, due, expires, parent, trace, first, flow, tick, key, shared, input =
    unpack(found, 2, 17)
  if flow and is_stopped(flow) then
    return close(id, fn, 'cancelled', 'cancelled', '', flow)
  elseif expires and token == '0' and now > tonumber(expires) then
    return close(id, fn, 'failed', 'expired', '', flow)
  end
  local run, fence = ns .. 'run:' .. id, new_token()
  redis.call('HSET', run, 'state', 'running', 'token', fence, 'worker', worker, 'claimed', now)
  leases[#leases + 1] = now + lease
  leases[#leases + 1] = id
  if #leases == 1000 then
    hold(q)
  end
  left, looked = left - 1, looked - 1
  local has_place = grant and grant.slot
  if has_place then
    lanes().enter_run(id, fn, grant)
  elseif grant then
    key = false -- to be assigned
    redis.call('HSET', run, 'line', string.format('%.17g ', place) .. token)
  end
  crashes = tonumber(crashes or 0)
  answer[#answer + 1] = '\220\0\19' .. cmsgpack.pack(
    id, fn, q, fence, tonumber(failures or 0), crashes, crashes - (shared or 0), trigger, tonumber(prio), accepted / 1000,
    (first or due) / 1000, now / 1000, expires and expires / 1000 or nil, parent or '', trace or '', key or nil,
    has_place and true or false
  ) .. binary(input_of(id, input) or '') .. binary(tick or '')
end

local function fields_of(id)
  return redis.call(
    'HMGET', ns .. 'run:' .. id, 'fn', 'token', 'failures', 'crashes', 'trigger', 'prio', 'accepted', 'due', 'expires',
    'parent', 'trace', 'first', 'flow', 'tick', 'key', 'shared', 'in'
  )
end

-- Take the run at a place in line, or put it where workers that know its function look. line: ids and their scores.
local function take(q, line, at)
  local id, score = line[at], line[at + 1]
  if is_done() then
    redis.call('ZADD', ns .. 'ready:' .. q, score, id)
    return
  end
  looked = looked + 1
  local found = fields_of(id)
  local fn, key = found[1], found[15]
  if not fn then
    return
  end
  local known = look_up(fn)
  if known and not known.limits and not key then
    return claim(q, id, fn, found)
  elseif known then
    local first, grant, lane = turns().run_of_turn(q, line, at, fn, found[6], key, known.limits)
    if first then
      if first ~= id then
        found = fields_of(first)
      elseif grant and grant.slot then
        found[15] = key or '' -- it has got one, of a function without key=
      end
      claim(q, first, fn, found, grant, score)
      turns().refill_line(lane, q, line, at)
    end
    return
  end
  redis.call('ZADD', key_of_two('wait:', q, fn), score, id)
  redis.call('ZADD', ns .. 'unknown:' .. q, now + PATIENCE, id)
  redis.call('SADD', ns .. 'waiting:' .. q, fn)
  ring(q)
end

-- The most urgent of several sets: they are few, and hold few.
local function pop_merged(q, waits)
  local heads = {}
  waits[#waits + 1] = {ns .. 'ready:' .. q}
  for _, source in ipairs(waits) do
    local found = redis.call('ZRANGE', source[1], 0, left - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      heads[#heads + 1] = {tonumber(found[i + 1]), found[i], source[2]}
    end
  end
  table.sort(heads, function(a, b) return a[1] < b[1] or (a[1] == b[1] and less(a[2], b[2])) end)
  local line = {}
  for i = 1, math.min(left, #heads) do
    local score, id, fn = unpack(heads[i])
    if fn then
      leave_wait(id, q, fn)
    else
      redis.call('ZREM', ns .. 'ready:' .. q, id)
    end
    line[2 * i - 1], line[2 * i] = id, score
  end
  return line
end

local function serve(q)
  looked = 0
  while not is_done() do
    local waits = {}
    for _, fn in ipairs(redis.call('SMEMBERS', ns .. 'waiting:' .. q)) do
      if look_up(fn) then
        waits[#waits + 1] = {key_of_two('wait:', q, fn), fn}
      end
    end
    local line = #waits > 0 and pop_merged(q, waits) or redis.call('ZPOPMIN', ns .. 'ready:' .. q, left)
    if #line == 0 then
      return
    end
    local at = 1
    while at < #line do -- it may become longer
      take(q, line, at)
      at = at + 2
    end
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
return '\221' .. struct.pack('>I4', #answer) .. table.concat(answer)
