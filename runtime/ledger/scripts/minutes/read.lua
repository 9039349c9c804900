-- What was counted from one minute to another, both included. Arguments: these two, and the functions; none for all.
-- Returns minute, function, then its fields and counts as HGETALL gives them, of each hour and function.
local first, last = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
local answer = {}
for hour = math.floor(first / 60), math.floor(last / 60) do
  local base = ns .. 'minutes:' .. string.format('%d', hour)
  local functions = {}
  for at = FIRST + 2, #ARGV do
    functions[#functions + 1] = ARGV[at]
  end
  if #functions == 0 then
    functions = redis.call('SMEMBERS', base)
  end
  for _, fn in ipairs(functions) do
    local found = redis.call('HGETALL', base .. ':' .. fn)
    if #found > 0 then
      answer[#answer + 1] = hour * 60
      answer[#answer + 1] = fn
      answer[#answer + 1] = found
    end
  end
end
return answer
