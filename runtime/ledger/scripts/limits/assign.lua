-- Runs that were claimed without a key go back to their places in line, with one. ARGV: id, token, queue, key of each. Returns
-- how many.
-- include: runs ends flows
local count = 0

local function assign(id, q, key)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'fn', 'prio', 'cancel', 'flow', 'line')
  local fn, prio = found[1], found[2]
  local place, before = string.match(found[5] or '', '^(%S+) (%d+)$')
  redis.call('ZREM', ns .. 'leases:' .. q, id)
  redis.call('HDEL', run, 'line')
  if found[3] then
    close(id, fn, 'cancelled', 'cancelled', '', found[4])
    return
  end
  -- One that has not begun before may still expire.
  redis.call('HSET', run, 'state', 'queued', 'token', before == '0' and 0 or new_token(), 'key', key)
  place = place or urgency(tonumber(prio), true)
  redis.call('ZADD', ns .. 'ready:' .. q, place, id)
  lanes().join(lanes().of(q, prio, fn), fn, key, id, place)
  ring(q)
  count = count + 1
end

for at = FIRST, #ARGV, 4 do
  local id, token, q, key = unpack(ARGV, at, at + 3)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'token', 'state')
  if found[1] == token and found[2] == 'running' then
    assign(id, q, key)
  end
end
go_on()
return count
