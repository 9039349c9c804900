-- What was counted in whole hours. Arguments: the first and the last, since the epoch. Returns of each its first minute, then
-- fields and numbers as record.lua has them.
local answer = {}
for hour = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]) do
  answer[#answer + 1] = hour * 60
  answer[#answer + 1] = redis.call('HGETALL', ns .. 'counted:' .. string.format('%d', hour))
end
return answer
