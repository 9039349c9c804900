-- Adds to what is counted by the minute. Arguments: minute (since the epoch), function, trigger, what, count, of each.
--
-- minutes:{hour}            set of the functions that have something in that hour
-- minutes:{hour}:{function} hash: "minute of the hour:what:trigger" -> count
local KEPT = 25 * 3600 -- s
local this = math.floor(now / 60000)
local lasting = {}

for at = FIRST, #ARGV, 5 do
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
