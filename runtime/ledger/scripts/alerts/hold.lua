-- Hold the alerts, or go on to. ARGV: holder, lease (ms; 0 to let go). Returns the token, 0 for who does not hold them.
-- include: alerts/holding
local holder, lease = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local found = redis.call('HMGET', all, 'holder', 'token', 'until')
local is_mine = found[1] == holder
if not is_mine and tonumber(found[3] or 0) > now and tonumber(found[3]) <= now + HOUR then -- else the clock was set back
  return 0
end
if lease == 0 then
  if is_mine then
    redis.call('HSET', all, 'until', 0)
  end
  return 0
end
local token = found[2]
if not is_mine or tonumber(found[3]) <= now then
  token = new_token()
end
redis.call('HSET', all, 'holder', holder, 'token', token, 'until', now + lease)
return tonumber(token)
