-- What people may see. Returns now, holder ('' for none), rules and their states, what was sent last, what waits (name, hash).
-- include: alerts/holding
local found = redis.call('HMGET', all, 'holder', 'until')
local waiting = {}
for _, name in ipairs(redis.call('ZRANGE', outbox, 0, RECENT - 1)) do
  waiting[#waiting + 1] = name
  waiting[#waiting + 1] = redis.call('HGETALL', ns .. 'alert:' .. name)
end
return {
  now, tonumber(found[2] or 0) > now and found[1] or '', redis.call('HGETALL', ns .. 'alert_states'),
  redis.call('LRANGE', ns .. 'alert_recent', 0, -1), waiting
}
