-- A page of runs, newest first. ARGV: how many, score and id to begin after ("+inf", "" for the first page), states
-- ("failed,running", "" for all), trigger ("" for all), earliest ms, functions ("" for all). Returns the score and the id
-- to go on from ("" at the end), then id, fields of each.
local most, after, last = tonumber(ARGV[FIRST]), ARGV[FIRST + 1], ARGV[FIRST + 2]
local states, trigger, since = ARGV[FIRST + 3], ARGV[FIRST + 4], ARGV[FIRST + 5]
local LOOKED = 2000 -- runs of which few fit: the caller goes on from there
local CHUNK = 16 -- of a list, at once; at first one, for of most lists of many functions no other is needed

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
        'ZRANGE', source.key, from, since, 'BYSCORE', 'REV', 'LIMIT', source.offset, source.chunk, 'WITHSCORES'
      )
      source.offset, source.at, source.chunk = source.offset + source.chunk, 1, CHUNK
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

local sources = {} -- a heap, its newest first
local function is_newer(one, other)
  return one.score > other.score or (one.score == other.score and less(other.id, one.id))
end

-- Put a source where it belongs, from a place on.
local function sink(source, at)
  while 2 * at <= #sources do
    local child = 2 * at
    if child < #sources and is_newer(sources[child + 1], sources[child]) then
      child = child + 1
    end
    if not is_newer(sources[child], source) then
      break
    end
    sources[at], at = sources[child], child
  end
  sources[at] = source
end

for _, fn in ipairs(functions) do
  for set in pairs(sets) do
    local source = {key = ns .. set .. fn, set = set, found = {}, at = 1, offset = 0, chunk = 1}
    if step(source) then
      sources[#sources + 1] = source
    end
  end
end
for at = math.floor(#sources / 2), 1, -1 do
  sink(sources[at], at)
end

-- A list may still hold an id of which there is a newer run, in another list.
local function fits(state, kind, set)
  return state and set == (SETS[state] or 'open:') and (states == '' or wanted[state]) and (trigger == '' or trigger == kind)
end

local answer = {'', ''}
local looked, count = 0, 0
local shown = ''
while #sources > 0 and count < most and looked < LOOKED do
  local source = sources[1]
  after, shown = source.mark, source.id
  looked = looked + 1
  local run = ns .. 'run:' .. shown
  local found = redis.call('HMGET', run, 'state', 'trigger')
  if fits(found[1], found[2], source.set) then
    count = count + 1
    answer[#answer + 1] = shown
    answer[#answer + 1] = redis.call('HGETALL', run)
  end
  if step(source) then
    sink(source, 1)
  else
    local last_one = table.remove(sources)
    if last_one ~= source then
      sink(last_one, 1)
    end
  end
end
if #sources > 0 then
  answer[1], answer[2] = after, shown
end
return answer
