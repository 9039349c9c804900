-- Which runs of a schedule are open: those of its ticks, and apart from them those that a backfill asked for.
--
-- ticks:{schedule} backfill:{schedule}  sorted sets of open runs by ms of their ticks
-- held:{schedule} backheld:{schedule}   those of them that wait until others end; each says in the field `most` how many may
--                                       be at work. A held run is scheduled, and in no queue
--
-- A tick's run has an id that tells its tick, and the fields schedule, and tick: JSON for its handler.
local PLANNED = 19 -- where in the id the ms begin

-- Whether a run may be a tick's: then its hash says so. Of others that need not be asked.
local function is_tick(id)
  return string.sub(id, 1, 5) == 'tick-'
end

local function lane_of(schedule, trigger)
  if trigger == 'backfill' then
    return ns .. 'backfill:' .. schedule, ns .. 'backheld:' .. schedule
  end
  return ns .. 'ticks:' .. schedule, ns .. 'held:' .. schedule
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
local function let_next_go(open, held)
  while true do
    local id = redis.call('ZRANGE', held, 0, 0)[1]
    if not id then
      return
    end
    local most = redis.call('HGET', ns .. 'run:' .. id, 'most')
    if most and redis.call('ZCARD', open) - redis.call('ZCARD', held) >= tonumber(most) then
      return
    elseif most then
      let_go(id, held)
    else -- there is no such run
      redis.call('ZREM', held, id)
      redis.call('ZREM', open, id)
    end
  end
end

-- A run is over.
local function end_tick(id, state)
  local schedule, trigger = unpack(redis.call('HMGET', ns .. 'run:' .. id, 'schedule', 'trigger'), 1, 2)
  if not schedule then
    return
  end
  local open, held = lane_of(schedule, trigger)
  redis.call('ZREM', open, id)
  redis.call('ZREM', held, id)
  local found = redis.call('HMGET', ns .. 'schedule:' .. schedule, 'last', 'success')
  local planned = string.sub(id, PLANNED)
  if state == 'succeeded' and found[1] and tonumber(planned) > tonumber(found[2] or 0) then
    redis.call('HSET', ns .. 'schedule:' .. schedule, 'success', planned)
  end
  let_next_go(open, held)
end

-- A run that was over is open again.
local function reopen_tick(id)
  local schedule, trigger = unpack(redis.call('HMGET', ns .. 'run:' .. id, 'schedule', 'trigger'), 1, 2)
  if schedule then
    redis.call('ZADD', lane_of(schedule, trigger), string.sub(id, PLANNED), id)
  end
end
