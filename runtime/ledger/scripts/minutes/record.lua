-- Adds to what is counted by the minute. Arguments: a process ('' for none) and the number of this call of it, which adds once
-- however often it is made; minute (since the epoch), function, trigger, what, count, of each.
--
-- minutes:of:{process}      the number of its last call
-- minutes:{hour}            set of the functions that have something in that hour
-- minutes:{hour}:{function} hash: "minute of the hour:what:trigger" -> count
local KEPT = 25 * 3600 -- s
local this = math.floor(now / 60000)
local lasting = {}
local source, call = ARGV[FIRST], ARGV[FIRST + 1]
if source ~= '' then
  if redis.call('GET', ns .. 'minutes:of:' .. source) == call then
    return 0
  end
  redis.call('SET', ns .. 'minutes:of:' .. source, call, 'EX', 2 * 3600)
end

for at = FIRST + 2, #ARGV, 5 do
  local minute, fn = tonumber(ARGV[at]), ARGV[at + 1]
  if minute > this - 1500 and minute < this + 60 then
    local hour = string.format('%d', math.floor(minute / 60))
    local key = ns .. 'minutes:' .. hour .. ':' .. fn
    if not lasting[key] then
      lasting[key] = true
      lasting[ns .. 'minutes:' .. hour] = true
      redis.call('SADD', ns .. 'minutes:' .. hour, fn)
    end
    redis.call('HINCRBY', key, string.format('%d:%s:%s', minute % 60, ARGV[at + 3], ARGV[at + 2]), ARGV[at + 4])
  end
end
for key in pairs(lasting) do
  redis.call('EXPIRE', key, KEPT)
end
return 1
