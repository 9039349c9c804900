-- What was counted from one minute to another, both included. Arguments: these two, and the functions; none for all.
-- Returns the hour's first minute, function, then fields and numbers as record.lua has them, of each hour and function.
local first, last = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
local answer = {}

-- The functions of which something was counted in an hour.
local function counted(base)
  local names, known = {}, {}
  for _, whose in ipairs(redis.call('HKEYS', base)) do
    local fn = string.match(whose, '^%Z*')
    if not known[fn] then
      known[fn] = true
      names[#names + 1] = fn
    end
  end
  return names
end

-- Of an hour's minutes, those from one to another.
local function between(found, low, high)
  if low <= 0 and high >= 59 then
    return found
  end
  local some = {}
  for at = 1, #found, 2 do
    local minute = string.byte(found[at])
    if minute >= low and minute <= high then
      some[#some + 1] = found[at]
      some[#some + 1] = found[at + 1]
    end
  end
  return some
end

for hour = math.floor(first / 60), math.floor(last / 60) do
  local base = ns .. 'counted:' .. string.format('%d', hour)
  local functions = {}
  for at = FIRST + 2, #ARGV do
    functions[#functions + 1] = ARGV[at]
  end
  if #functions == 0 then
    functions = counted(base)
  end
  for _, fn in ipairs(functions) do
    local found = between(redis.call('HGETALL', base .. ':' .. fn), first - hour * 60, last - hour * 60)
    if #found > 0 then
      answer[#answer + 1] = hour * 60
      answer[#answer + 1] = fn
      answer[#answer + 1] = found
    end
  end
end
return answer
