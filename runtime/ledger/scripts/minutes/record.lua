-- Adds to what is counted by the minute. Arguments: a process ('' for none) and the number of this call of it, which adds once
-- however often it is made; minute (since the epoch), function, trigger, numbers of each.
--
-- minutes:of:{process}      the number of its last call
-- counted:{hour}            hash: function, \0, trigger -> what was counted in that hour
-- counted:{hour}:{function} hash: minute of the hour (a byte), trigger -> what was counted in that minute
--
-- Numbers are one text, for a day of a thousand functions is some millions of them: a byte that says how many bytes the number
-- takes (times 32) and what it counts, then the number, the high byte first.
local KEPT = 26 * 3600 -- s; from the first that is counted in an hour, or a little before
local FORMS = {'>I1', '>I2', '>I3', '>I4', '>I5', '>I6', '>I7'}
local WHATS = 32
local this = math.floor(now / 60000)
local source, call = ARGV[FIRST], ARGV[FIRST + 1]
if source ~= '' then
  if redis.call('GET', ns .. 'minutes:of:' .. source) == call then
    return 0
  end
  redis.call('SET', ns .. 'minutes:of:' .. source, call, 'EX', 2 * 3600)
end

local function add(text, numbers)
  local at = 1
  while at < #text do
    local head = string.byte(text, at)
    local what, width = head % WHATS, math.floor(head / WHATS)
    numbers[what] = (numbers[what] or 0) + struct.unpack(FORMS[width], text, at + 1)
    at = at + 1 + width
  end
end

-- Two texts as one.
local function sum(one, other)
  if not one then
    return other
  end
  local numbers, parts = {}, {}
  add(one, numbers)
  add(other, numbers)
  for what = 0, WHATS - 1 do
    local number = numbers[what]
    if number then
      local width = 1
      while number >= 256 ^ width do
        width = width + 1
      end
      parts[#parts + 1] = string.char(width * WHATS + what) .. struct.pack(FORMS[width], number)
    end
  end
  return table.concat(parts)
end

for at = FIRST + 2, #ARGV, 4 do
  local minute, fn, trigger, numbers = tonumber(ARGV[at]), unpack(ARGV, at + 1, at + 3)
  if minute > this - 1500 and minute < this + 60 then
    local hours = ns .. 'counted:' .. string.format('%d', math.floor(minute / 60))
    local minutes, whose = hours .. ':' .. fn, fn .. '\0' .. trigger
    local field = string.char(minute % 60) .. trigger
    local before = redis.call('HGET', hours, whose)
    redis.call('HSET', hours, whose, sum(before, numbers))
    redis.call('HSET', minutes, field, sum(redis.call('HGET', minutes, field), numbers))
    if not before then
      redis.call('EXPIRE', hours, KEPT, 'NX')
      redis.call('EXPIRE', minutes, KEPT, 'NX')
    end
  end
end
return 1
