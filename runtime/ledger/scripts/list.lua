-- A page of runs, newest first. ARGV: how many, score and id to begin after ("+inf", "" for the first page), states
-- ("failed,running", "" for all), trigger ("" for all), earliest ms, functions ("" for all). Returns the score and the id
-- to go on from ("" at the end), then id, fields of each.
local most, after, last = tonumber(ARGV[FIRST]), ARGV[FIRST + 1], ARGV[FIRST + 2]
local states, trigger, since = ARGV[FIRST + 3], ARGV[FIRST + 4], ARGV[FIRST + 5]
local LOOKED = 2000

local wanted, sets = {}, {}
for state in string.gmatch(states, '[^,]+') do
  wanted[state] = true
  sets[(state == 'failed' and 'dead:') or ((state == 'succeeded' or state == 'cancelled') and 'done:') or 'open:'] = true
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

local function page(from, before)
  local heads = {}
  for _, fn in ipairs(functions) do
    for set in pairs(sets) do
      local found = redis.call(
        'ZRANGE', ns .. set .. fn, from, since, 'BYSCORE', 'REV', 'LIMIT', 0, most + 1, 'WITHSCORES'
      )
      for i = 1, #found, 2 do
        if found[i + 1] ~= from or before == '' or found[i] < before then
          heads[#heads + 1] = {tonumber(found[i + 1]), found[i], found[i + 1]}
        end
      end
    end
  end
  table.sort(heads, function(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2]) end)
  return heads
end

local answer = {'', ''}
local looked, count = 0, 0
while count < most and looked < LOOKED do
  local heads = page(after, last)
  if #heads == 0 then
    return answer
  end
  for i = 1, math.min(most, #heads) do
    after, last = heads[i][3], heads[i][2]
    looked = looked + 1
    local run = ns .. 'run:' .. last
    local found = redis.call('HMGET', run, 'state', 'trigger')
    if found[1] and (states == '' or wanted[found[1]]) and (trigger == '' or trigger == found[2]) then
      count = count + 1
      answer[#answer + 1] = last
      answer[#answer + 1] = redis.call('HGETALL', run)
      if count == most then
        break
      end
    end
  end
end
answer[1], answer[2] = after, last
return answer
