-- Hand runs back, as if they had not been claimed. ARGV: id, token, queue of each. Returns how many.
local count = 0
for at = FIRST, #ARGV, 3 do
  local id, token, q = unpack(ARGV, at, at + 2)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'token', 'state', 'fn', 'prio', 'cancel')
  if found[1] == token and found[2] == 'running' then
    redis.call('ZREM', ns .. 'leases:' .. q, id)
    if found[5] then
      close(id, found[3], 'cancelled', 'cancelled', '')
    else
      redis.call('HSET', run, 'state', 'queued', 'token', new_token()) -- whoever still runs it may not finish it
      make_ready(id, q, tonumber(found[4]), true)
      count = count + 1
    end
  end
end
return count
