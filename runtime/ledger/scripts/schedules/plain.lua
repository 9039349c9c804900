-- Most ticks are due at once, the only ones of their schedules, and nothing is in their way. Those of a minute come by the
-- thousand, so they are recorded with as few values as can be: what a script sends is kept until it ends, value by value,
-- and that takes longer than all else that is done to it. Behind the rest of fire.lua; between gather and write_gathered.

-- Those that were fired and are not gathered yet: names of runs, what `ticks` says of them, and what they have in common.
local names, marks, fired, alike = {}, {}, 0, nil

local function gather_plain()
  if fired == 0 then
    return
  end
  local said = alike.run
  local function list_of(key)
    local values = gathered[key] or {}
    gathered[key] = values
    return values, #values
  end
  local opens, open = list_of(ns .. 'open:' .. said.fn)
  local readies, ready = list_of(ns .. 'ready:' .. said.q)
  local ticks, tick = list_of(ns .. 'ticks')
  for at, name in ipairs(names) do
    opens[open + 1], opens[open + 2] = stamp(), name
    readies[ready + 1], readies[ready + 2] = urgency(5), name
    ticks[tick + 1], ticks[tick + 2] = '0', marks[at]
    open, ready, tick = open + 2, ready + 2, tick + 2
  end
  if #said.payload > SHORT then
    for _, name in ipairs(names) do
      put_input(name, said.payload)
    end
  end
  names, marks, fired = {}, {}, 0
end

-- The first run of a kind, of which the others are copies.
local function begin_plain(shared, run)
  local said = shared.run
  shared.first = run
  add_name('functions', said.fn)
  add_name('queues', said.q)
  ring(said.q)
  local more = #said.payload <= SHORT and {'in', said.payload} or {}
  if said.age ~= '' then
    more[#more + 1], more[#more + 2] = 'expires', now + said.age
  end
  -- What differs comes first: there it is found at once.
  redis.call(
    'HSET', run, 'tick', '', 'fn', said.fn, 'q', said.q, 'prio', said.prio, 'trigger', said.trigger, 'token', 0,
    'accepted', now, 'due', now, 'state', 'queued', unpack(more)
  )
end

-- What a tick comes to, by all that is known of its schedule: the end of its run's note, and what is known then. False if
-- it takes more than a run. last, upto: ms. planned: upto, as text.
local function plan_of(shared, text, last, upto, planned)
  if not text or upto > now or upto <= last or string.sub(text, RULE) ~= shared.rule then
    return false
  end
  local known, paused, since, success, runs, missed, overlap = struct.unpack(NUMBERS, text)
  if known ~= last or paused > 0 then
    return false
  end
  return {
    note = note_end(shared.timeout, planned, since, success),
    text = struct.pack(NUMBERS, upto, 0, 0, success, runs + 1, missed, overlap, upto) .. shared.rule
  }
end

-- Fire the tick of a schedule; false, and nothing is done, if that takes more. name: of the run. plan: as plan_of.
local function fire_plain(shared, plan, id, name, planned)
  local working = plan and shared.counts and count_work(id, shared)
  if not plan or (working and working >= shared.most) then
    return false
  end
  local run = ns .. 'run:' .. name
  if shared.first then
    if redis.call('COPY', shared.first, run) == 0 then -- there is one
      return false
    end
  elseif redis.call('EXISTS', run) == 1 then
    return false
  else
    begin_plain(shared, run)
  end
  redis.call('HSET', run, 'tick', NOTE .. id .. plan.note)
  fired, alike = fired + 1, shared
  names[fired], marks[fired] = name, id .. ' ' .. planned
  if working then
    at_work[id] = working + 1
  end
  keep(id, plan.text)
  return true
end
