-- What is kept of runs, and who is there. Returns how many workers and schedulers live, then of each function its name and
-- how many of its runs are open, have ended well or were cancelled, and are dead letters.
local answer = {
  redis.call('ZCOUNT', ns .. 'workers', '(' .. now, '+inf'), redis.call('ZCOUNT', ns .. 'schedulers', '(' .. now, '+inf')
}
for _, fn in ipairs(redis.call('SMEMBERS', ns .. 'functions')) do
  answer[#answer + 1] = fn
  answer[#answer + 1] = redis.call('ZCARD', ns .. 'open:' .. fn)
  answer[#answer + 1] = redis.call('ZCARD', ns .. 'done:' .. fn)
  answer[#answer + 1] = redis.call('ZCARD', ns .. 'dead:' .. fn)
end
return answer
