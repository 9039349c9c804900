-- Who lives, and how many dead letters there are: for the doctor. Returns workers as name, info (JSON), functions; schedulers
-- as name, info, digest; then function, count.
local workers, schedulers, dead = {}, {}, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ns .. 'workers', '(' .. now, '+inf')) do
  workers[#workers + 1] = {name, redis.call('GET', ns .. 'info:' .. name) or '{}', redis.call('SMEMBERS', ns .. 'worker:' .. name)}
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ns .. 'schedulers', '(' .. now, '+inf')) do
  local said = redis.call('HMGET', ns .. 'scheduler:' .. name, 'info', 'digest')
  schedulers[#schedulers + 1] = {name, said[1] or '{}', said[2] or ''}
end
for _, fn in ipairs(redis.call('SMEMBERS', ns .. 'functions')) do
  local count = redis.call('ZCARD', ns .. 'dead:' .. fn)
  if count > 0 then
    dead[#dead + 1] = {fn, count}
  end
end
return {workers, schedulers, dead}
