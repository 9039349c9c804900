-- Hand runs back, as if they had not been claimed. ARGV: id, token, queue of each. Returns how many.
-- include: runs ends acts flows
local count = 0
for at = FIRST, #ARGV, 3 do
  local id, token, q = unpack(ARGV, at, at + 2)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'token', 'state')
  if found[1] == token and found[2] == 'running' and hand_back(id, q) then
    count = count + 1
  end
end
go_on()
return count
