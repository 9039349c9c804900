-- Renew the places of calls, and their trials. ARGV: lease in ms; function, slot, holder, calls at once, failures that open the
-- breaker of each.
local lease = tonumber(ARGV[FIRST])
redis.call('ZREM', ns .. 'workers', '') -- as in beat.lua: a store that is full shall let us go on
for at = FIRST + 1, #ARGV, 5 do
  local fn, slot, holder, most, failures = unpack(ARGV, at, at + 4)
  if tonumber(most) > 0 then
    lanes().hold_place(fn, slot, holder, lease)
  end
  if tonumber(failures) > 0 and redis.call('HGET', ns .. 'breaker:' .. fn, 'trial') == holder then
    redis.call('HSET', ns .. 'breaker:' .. fn, 'lapses', now + lease)
  end
end
