-- Write what was judged, and what is to be sent for it, at once. ARGV: token, how many rules; rule, state (JSON) of each that is
-- not well; then message, rule, event, body, channels of each. Returns whether it was written: not by who no longer holds it.
-- include: alerts/holding
local token, count = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
if not holds(token) then
  return 0
end
local states, first = ns .. 'alert_states', FIRST + 2
redis.call('DEL', states)
for at = first, first + 2 * count - 1, 2 do
  redis.call('HSET', states, ARGV[at], ARGV[at + 1])
end
for at = first + 2 * count, #ARGV, 5 do
  redis.call('ZADD', told, now, ARGV[at])
  redis.call('PEXPIRE', told, HOUR)
  post(unpack(ARGV, at, at + 4))
end
return 1
