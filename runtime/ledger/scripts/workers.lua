-- The workers that have beaten lately. Returns name, info (JSON) of each.
local answer = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', ns .. 'workers', '(' .. now, '+inf')) do
  answer[#answer + 1] = worker
  answer[#answer + 1] = redis.call('GET', ns .. 'info:' .. worker) or '{}'
end
return answer
