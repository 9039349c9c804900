-- Most ticks are due at once, the only ones of their schedules, and nothing is in their way. Those of a minute come by the
-- thousand, so they are recorded with as few values as can be: what a script sends is kept until it ends, value by value,
-- and that takes longer than all else that is done to it. Behind the rest of fire.lua; between gather and write_gathered.

-- Where a script's runs of a kind are gathered, and the first of them, of which the others are copies.
local function begin_plain(shared, name, run)
  local function list_of(key)
    local values = gathered[key] or {}
    gathered[key] = values
    return values
  end
  local said = shared.run
  shared.opens, shared.readies = list_of(ns .. 'open:' .. said.fn), list_of(ns .. 'ready:' .. said.q)
  shared.ticks = list_of(ns .. 'ticks')
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

-- Fire the tick of a schedule; false, and nothing is done, if that takes more. name: of the run. last, upto: ms. planned:
-- upto, as text.
local function fire_plain(shared, id, name, last, upto, planned)
  local text = texts[id]
  if not text or upto > now or upto <= last or string.sub(text, RULE) ~= shared.rule then
    return false
  end
  local known, paused, since, success, runs, missed, overlap = struct.unpack(NUMBERS, text)
  local working = count_work(id, shared)
  if known ~= last or paused > 0 or working >= shared.most then
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
    begin_plain(shared, name, run)
  end
  redis.call('HSET', run, 'tick', note_of(id, shared.timeout, planned, since, success))
  local opens, readies, ticks = shared.opens, shared.readies, shared.ticks
  local count = #opens
  opens[count + 1], opens[count + 2] = stamp(), name
  count = #readies
  readies[count + 1], readies[count + 2] = urgency(5), name
  count = #ticks
  ticks[count + 1], ticks[count + 2] = '0', id .. ' ' .. planned
  put_input(name, shared.run.payload)
  at_work[id] = working + 1
  keep(id, struct.pack(NUMBERS, upto, 0, 0, success, runs + 1, missed, overlap, upto) .. shared.rule)
  return true
end
