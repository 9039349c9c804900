-- A page of runs, newest first. ARGV: how many, score and id to begin after ("+inf", "" for the first page), states
-- ("failed,running", "" for all), trigger ("" for all), earliest ms, functions ("" for all). Returns the score and the id
-- to go on from ("" at the end), then id, fields of each.
local most, after, last = tonumber(ARGV[FIRST]), ARGV[FIRST + 1], ARGV[FIRST + 2]
local states, trigger, since = ARGV[FIRST + 3], ARGV[FIRST + 4], ARGV[FIRST + 5]
local LOOKED = 2000 -- runs of which few fit: the caller goes on from there
local CHUNK = 16

local SETS = {failed = 'dead:', succeeded = 'done:', cancelled = 'done:'}
local wanted, sets = {}, {}
for state in string.gmatch(states, '[^,]+') do
  wanted[state] = true
  sets[SETS[state] or 'open:'] = true
end
if states == '' then
  sets = {['open:'] = true, ['done:'] = true, ['dead:'] = true}
end
local functions = {}
for at = FIRST + 6, #ARGV do
  functions[#functions + 1] = ARGV[at]
end
if #functions == 0 then
  functions = redis.call('SMEMBERS', ns .. 'functions')
end

-- Go to a source's next run: its id, and score as number and as text; false after the last.
local from = after
local function step(source)
  repeat
    if source.at > #source.found then
      source.found = redis.call(
        'ZRANGE', source.key, from, since, 'BYSCORE', 'REV', 'LIMIT', source.offset, CHUNK, 'WITHSCORES'
      )
      source.offset, source.at = source.offset + CHUNK, 1
      if #source.found == 0 then
        return false
      end
    end
    source.id, source.mark = source.found[source.at], source.found[source.at + 1]
    source.score = tonumber(source.mark)
    source.at = source.at + 2
  until source.mark ~= from or last == '' or less(source.id, last)
  return true
end

local sources = {}
for _, fn in ipairs(functions) do
  for set in pairs(sets) do
    local source = {key = ns .. set .. fn, set = set, found = {}, at = 1, offset = 0}
    if step(source) then
      sources[#sources + 1] = source
    end
  end
end

local function newest()
  local best = 1
  for i = 2, #sources do
    local one, other = sources[i], sources[best]
    if one.score > other.score or (one.score == other.score and less(other.id, one.id)) then
      best = i
    end
  end
  return best
end

-- A list may still hold an id of which there is a newer run, in another list.
local function fits(state, kind, set)
  return state and set == (SETS[state] or 'open:') and (states == '' or wanted[state]) and (trigger == '' or trigger == kind)
end

local answer = {'', ''}
local looked, count = 0, 0
local shown = ''
while #sources > 0 and count < most and looked < LOOKED do
  local best = newest()
  local source = sources[best]
  after, shown = source.mark, source.id
  looked = looked + 1
  local run = ns .. 'run:' .. shown
  local found = redis.call('HMGET', run, 'state', 'trigger')
  if fits(found[1], found[2], source.set) then
    count = count + 1
    answer[#answer + 1] = shown
    answer[#answer + 1] = redis.call('HGETALL', run)
  end
  if not step(source) then
    table.remove(sources, best)
  end
end
if #sources > 0 then
  answer[1], answer[2] = after, shown
end
return answer
