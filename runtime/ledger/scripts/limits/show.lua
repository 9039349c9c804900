-- What is known of the limits of functions. ARGV: how many keys of each; functions. Returns for each: its limits (JSON, '' for
-- none), runs that wait, how many keys they have, calls that wait and places that are held without a key, breaker ("closed",
-- "open" or "half-open"), ms until an open one lets a call try; key, runs that wait, places that are held, of those of which
-- most wait.
local most = tonumber(ARGV[FIRST])
local LOOKED = 1000 -- keys of a lane
local answer = {}
local lanes = lanes()

local function held_of(fn, slot)
  return redis.call('SCARD', key_of_two('places:', fn, slot))
    + redis.call('ZCOUNT', key_of_two('calls:', fn, slot), '(' .. now, '+inf')
end

local function callers_of(fn, slot)
  return redis.call('ZCOUNT', key_of_two('asked:', fn, slot), '(' .. now, '+inf')
end

-- How many runs of each key wait, as far as it is looked at; how many do; and how many keys there are.
local function waiting_of(fn)
  local keys, total, count, unseen = {}, 0, 0, 0
  for _, lane in ipairs(redis.call('SMEMBERS', ns .. 'lanes:' .. fn)) do
    local found = redis.call('ZREVRANGE', ns .. 'keys:' .. lane, 0, LOOKED - 1, 'WITHSCORES')
    unseen = unseen + redis.call('ZCARD', ns .. 'keys:' .. lane) - #found / 2
    for at = 1, #found, 2 do
      count = count + (keys[found[at]] and 0 or 1)
      keys[found[at]] = (keys[found[at]] or 0) + found[at + 1]
      total = total + found[at + 1]
    end
  end
  return keys, total + unseen, count + unseen -- at least one run each
end

local function show(fn)
  local text = redis.call('HGET', ns .. 'limits', fn) or ''
  local limits = text ~= '' and cjson.decode(text) or {}
  local keys, total, count = waiting_of(fn)
  local word, at = lanes.look_at_breaker(fn, limits.reset_ms or 0)
  local opened = redis.call('HGET', ns .. 'breaker:' .. fn, 'opened')
  local state = not opened and 'closed' or opened + (limits.reset_ms or 0) > now and 'open' or 'half-open'
  local order = {}
  for key in pairs(keys) do
    order[#order + 1] = key
  end
  table.sort(order, function(a, b) return keys[a] > keys[b] or (keys[a] == keys[b] and less(a, b)) end)
  local top = {}
  for place = 1, math.min(most, #order) do
    local key = order[place]
    local slot = limits.keyed and key or ''
    for _, value in ipairs({key, keys[key], held_of(fn, slot)}) do
      top[#top + 1] = value
    end
  end
  return {
    text, total, count, callers_of(fn, ''), held_of(fn, ''), state, word == 'no' and state == 'open' and at - now or 0, top
  }
end

for at = FIRST + 1, #ARGV do
  answer[#answer + 1] = show(ARGV[at])
end
return answer
