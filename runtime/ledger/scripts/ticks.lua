-- Which runs of a schedule are open: those of its ticks, and apart from them those that a backfill asked for.
--
-- ticks backfill   sorted sets, all of one score: of each open run its schedule, a space, the ms of its tick. Those of a
--                  schedule stand side by side, so one set is as good as one each, and many are added by one command
-- held:{schedule} backheld:{schedule}   sorted sets of the runs among them that wait until others end, by ms; each says in
--                  the field `most` how many may be at work. A held run is scheduled, and in no queue
--
-- A tick's run has an id that tells its tick, and the field tick: JSON for its handler, that begins with its schedule.
-- include: states
local PLANNED = 19 -- where in the id the ms begin

-- Whether a run may be a tick's: then its hash says so. Of others that need not be asked.
local function is_tick(id)
  return string.sub(id, 1, 5) == 'tick-'
end

-- Where the open runs of a schedule are, and where those of them that wait.
local function lane_of(schedule, trigger)
  if trigger == 'backfill' then
    return ns .. 'backfill', ns .. 'backheld:' .. schedule
  end
  return ns .. 'ticks', ns .. 'held:' .. schedule
end

local function count_open(open, schedule)
  return redis.call('ZLEXCOUNT', open, '[' .. schedule .. ' ', '(' .. schedule .. '!') -- what follows on a space
end

local function let_go(id, held)
  local run = ns .. 'run:' .. id
  local found = redis.call('HMGET', run, 'q', 'prio', 'due', 'fn', 'key')
  redis.call('ZREM', held, id)
  if tonumber(found[3]) > now then
    redis.call('ZADD', ns .. 'due:' .. found[1], found[3], id)
  else
    redis.call('HSET', run, 'state', 'queued', 'due', now)
    make_ready(id, found[1], tonumber(found[2]), false, found[4], found[5])
  end
end

-- Held runs begin for which there is room.
local function let_next_go(schedule, open, held)
  while true do
    local id = redis.call('ZRANGE', held, 0, 0)[1]
    if not id then
      return
    end
    local most = redis.call('HGET', ns .. 'run:' .. id, 'most')
    if most and count_open(open, schedule) - redis.call('ZCARD', held) >= tonumber(most) then
      return
    elseif most then
      let_go(id, held)
    else -- there is no such run
      redis.call('ZREM', held, id)
      redis.call('ZREM', open, schedule .. ' ' .. string.sub(id, PLANNED))
    end
  end
end

-- Of a run: its schedule, and its trigger.
local function schedule_of(id)
  local note, trigger = unpack(redis.call('HMGET', ns .. 'run:' .. id, 'tick', 'trigger'), 1, 2)
  return note and string.match(note, '^{"schedule":"([^"]*)"'), trigger
end

-- A run is over.
local function end_tick(id, state)
  local schedule, trigger = schedule_of(id)
  if not schedule then
    return
  end
  local open, held = lane_of(schedule, trigger)
  local planned = string.sub(id, PLANNED)
  redis.call('ZREM', open, schedule .. ' ' .. planned)
  redis.call('ZREM', held, id)
  local known, is_defined
  if state == 'succeeded' then
    known, is_defined = find_state(schedule)
  end
  if known and known.last > 0 and tonumber(planned) > known.success then
    known.success = tonumber(planned)
    keep_state(schedule, known, is_defined)
  end
  let_next_go(schedule, open, held)
end

-- A run that was over is open again.
local function reopen_tick(id)
  local schedule, trigger = schedule_of(id)
  if schedule then
    redis.call('ZADD', (lane_of(schedule, trigger)), 0, schedule .. ' ' .. string.sub(id, PLANNED))
  end
end
