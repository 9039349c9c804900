-- What rules are judged by, but for what was counted by the minute and queues. ARGV: ms without a beat after which a worker
-- counts as gone, ms for which a beat has it stay, the oldest minute that is asked for ('' for none), then the windows (ms) in
-- which dead letters are counted. Returns now, rules and their states, messages of the last hour, functions, their dead
-- letters of each window, workers, schedulers, lost workers and when (ms), functions that were counted since that minute.
-- include: alerts/holding
local silence, stays, minute = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local seen, lost = ns .. 'alert_workers', ns .. 'alert_lost'

local living = redis.call('ZRANGE', ns .. 'workers', 0, -1, 'WITHSCORES')
local alive = 0
for at = 1, #living, 2 do
  local beaten = tonumber(living[at + 1]) - stays
  redis.call('ZADD', seen, beaten, living[at])
  if beaten > now - silence then
    alive = alive + 1
    redis.call('ZREM', lost, living[at]) -- it was frozen, and goes on
  end
end
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - silence)) do
  if redis.call('EXISTS', ns .. 'info:' .. worker) == 1 then -- who leaves in good order takes that along
    redis.call('ZADD', lost, 'NX', now, worker)
  else
    redis.call('ZREM', seen, worker)
  end
end
redis.call('ZREMRANGEBYSCORE', lost, '-inf', now - DAY)
redis.call('PEXPIRE', seen, DAY)
redis.call('PEXPIRE', lost, DAY + SLACK)

local functions = redis.call('SMEMBERS', ns .. 'functions')
local dead = {}
for at = FIRST + 3, #ARGV do
  local counts = {}
  for place, fn in ipairs(functions) do
    counts[place] = redis.call('ZCOUNT', ns .. 'dead:' .. fn, now - ARGV[at], '+inf')
  end
  dead[#dead + 1] = counts
end

local counted = {}
for hour = math.floor((minute or now / 60000) / 60), minute and math.floor(now / 3600000) or 0 do
  for _, whose in ipairs(redis.call('HKEYS', ns .. 'counted:' .. string.format('%d', hour))) do
    counted[string.match(whose, '^%Z*')] = true
  end
end
local names = {}
for fn in pairs(counted) do
  names[#names + 1] = fn
end
redis.call('ZREMRANGEBYSCORE', told, '-inf', now - HOUR)
return {
  now, redis.call('HGETALL', ns .. 'alert_states'), redis.call('ZCARD', told), functions, dead, alive,
  redis.call('ZCOUNT', ns .. 'schedulers', '(' .. now, '+inf'), redis.call('ZRANGE', lost, 0, -1, 'WITHSCORES'),
  names
}
