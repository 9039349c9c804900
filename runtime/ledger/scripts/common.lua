-- What every script begins with; a line `-- include: a b` stands for these files. ARGV: prefix of all keys, now
-- in ms ("" for the server's clock), how long a good and how long a failed run is kept (ms), how many finished ones a
-- function keeps; then the script's own.
--
-- run:{id}    hash: fn q state prio trigger token failures crashes accepted due ...   (lasting while the run is open)
-- in:{id} out:{id} log:{id} progress:{id} children:{id}   payload, result or error, attempts, latest progress, ids;
--             a short payload or result is a field of the hash in place of a key: in, out
-- lines:{id}    what it has logged, the newest: see keep_lines.lua
-- ready:{q} due:{q} leases:{q}   sorted sets of ids by urgency, by ms, by ms
-- wait:{length of q}:{q}:{fn} waiting:{q} unknown:{q}   ready runs a worker met that does not know their function; by
--                                         urgency; which functions have some; by ms of their end
-- open:{fn} done:{fn} dead:{fn}  sorted sets of ids, for lists
-- callback:{message} callbacks ...   who is to be told of the ends of runs: see callbacks.lua
-- flow:{id} flows   a flow's nodes, and what is left to be done in flows: see flows.lua
-- schedule:{id} ...   what is known of schedules: see schedules.lua and ticks.lua
-- keyed:{lane}:{key} ...  runs that wait for a function's limits, and who holds its places: see limits/lanes.lua
-- dedupe:{length of fn}:{fn}:{key}  until when (ms), and the id of the first
-- worker:{w} knows:{w} info:{w}  set of the functions a worker knows, hash of them with their limits (JSON, '' for none), JSON;
--                                workers: sorted set by ms of their end
--
-- What time decides is a deadline that is compared with `now`, which may be a test's: a TTL only collects garbage.
local ns = ARGV[1]
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local KEEP = {done = tonumber(ARGV[3]), dead = tonumber(ARGV[4])}
local KEEP_COUNT = tonumber(ARGV[5])
local FIRST = 6
local PATIENCE = 600000 -- ms a run waits for a worker that knows its function
local BELLS = 64
local SLACK = 3600000 -- ms that a key outlives its deadline
-- What is seldom there, and may go a little later than its run.
local LONGEST = math.max(KEEP.done, KEEP.dead) + SLACK
local SHORT = 64 -- bytes of a payload or result; a longer value would make a small hash a large one
local BAND = 9e14 -- a priority's part of the scores in a ready set; sums are exact to 9e15

-- The order of ids in a sorted set, bytes; Lua's own `<` goes by the locale of the server.
local function less(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

-- The next number of a lasting sequence. block: how many a script takes at once.
local block = 1
local last, left_of_block = 0, 0
local function number()
  if left_of_block == 0 then
    left_of_block = block
    last = redis.call('INCRBY', ns .. 'seq', block) - block
  end
  left_of_block = left_of_block - 1
  last = last + 1
  return last
end

-- A score for lists: by time, and in order within a millisecond.
local function stamp()
  return now + number() % 4096 / 4096
end

-- Whatever a script does to a queue, one worker is woken, which wakes the next if it leaves something.
local rung = {}
local function ring(q)
  if not rung[q] then
    rung[q] = true
    local bell = ns .. 'bell:' .. q
    if redis.call('LLEN', bell) < BELLS then
      redis.call('LPUSH', bell, 1)
    end
  end
end

local added = {}
local function add_name(set, name)
  local names = added[set] or {}
  if not names[name] then
    added[set] = names
    names[name] = true
    redis.call('SADD', ns .. set, name)
  end
end

-- The fence of a claim: no other claim of this store has the same, one of an earlier run of the same id neither.
local function new_token()
  return number()
end

-- The score of the next run in a ready set. first: before all others of its priority
local function urgency(prio, first)
  return (9 - prio) * BAND + (first and 0 or number())
end

-- Names may have colons: with its length, the first of two ends where it ends.
local function key_of_two(kind, one, other)
  return ns .. kind .. #one .. ':' .. one .. ':' .. other
end

-- What limits need is made only where a script meets one.
local lanes_made
local function lanes()
  if not lanes_made then
    lanes_made = (function()
      -- include: limits/lanes
      return {
        of = lane_of, name_of = name_of, join = join, drop = drop, count_off = count_off, waiting_of = waiting_of, put_apart = put_apart,
        call_back = call_back, refill = refill, leave = leave_lane, block_key = block_key, wake = wake, wake_all = wake_all,
        shut = shut_lane, is_lost = is_lost, look_again = look_again, has_place = has_place, look_at_rate = look_at_rate,
        take_rate = take_rate, RESERVED = RESERVED, look_at_breaker = look_at_breaker, begin_trial = begin_trial, judge = judge,
        hold_place = hold_place, forget_calls = forget_calls, forget_callers = forget_callers, forget_stray = forget_stray, enter_run = enter_run,
        leave_run = leave_run
      }
    end)()
  end
  return lanes_made
end

-- key: by which limits are apart; that field of its hash, if it has it.
local function make_ready(id, q, prio, first, fn, key)
  local place = urgency(prio, first)
  redis.call('ZADD', ns .. 'ready:' .. q, place, id)
  if key then
    lanes().join(lanes().of(q, prio, fn), fn, key, id, place)
  end
  ring(q)
end

-- A run that was at work is so no more: its place under limits is free. slot, breaker: those fields of its hash.
local function free_place(id, fn, slot, breaker, verdict, holder, lease)
  if slot or breaker then
    lanes().leave_run(id, fn, slot, breaker, verdict, holder, lease)
  end
end

local function leave_wait(id, q, fn)
  local wait = key_of_two('wait:', q, fn)
  redis.call('ZREM', wait, id)
  redis.call('ZREM', ns .. 'unknown:' .. q, id)
  if redis.call('EXISTS', wait) == 0 then
    redis.call('SREM', ns .. 'waiting:' .. q, fn)
  end
end

local function keys_of(id)
  return ns .. 'run:' .. id, ns .. 'in:' .. id, ns .. 'out:' .. id, ns .. 'log:' .. id, ns .. 'progress:' .. id,
    ns .. 'lines:' .. id
end

-- A run's payload; nil for none. inline: that field of its hash.
local function input_of(id, inline)
  return inline or redis.call('GET', ns .. 'in:' .. id) or nil
end

-- One command for many values of a key: Lua's stack holds some thousands.
local PIECE = 500
local function send_all(command, key, values)
  for at = 1, #values, PIECE do
    redis.call(command, key, unpack(values, at, math.min(#values, at + PIECE - 1)))
  end
end
