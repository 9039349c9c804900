-- The schedulers that live. Returns name, info (JSON) of each.
local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ns .. 'schedulers', '(' .. now, '+inf')) do
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call('HGET', ns .. 'scheduler:' .. name, 'info') or '{}'
end
return answer
