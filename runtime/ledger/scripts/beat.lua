-- Renew leases. ARGV: worker, lease in ms, how long the worker stays registered (ms); id, token, queue, progress of each.
-- Returns the ids of lost leases, and those of runs to be cancelled.
local worker, lease, stays = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local lost, cancelled = {}, {}
-- A store that is full lets a script go on that has begun with what takes no memory. Else long runs would lose their
-- leases to the reaper, which goes on.
redis.call('ZREM', ns .. 'workers', '')
if tonumber(redis.call('ZSCORE', ns .. 'workers', worker) or 0) > now then
  redis.call('ZADD', ns .. 'workers', now + stays, worker)
  redis.call('PEXPIRE', ns .. 'worker:' .. worker, stays + SLACK)
  redis.call('PEXPIRE', ns .. 'knows:' .. worker, stays + SLACK)
  redis.call('PEXPIRE', ns .. 'info:' .. worker, stays + SLACK)
end
for at = FIRST + 3, #ARGV, 4 do
  local id, token, q, progress = unpack(ARGV, at, at + 3)
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'token', 'state', 'cancel')
  if found[1] == token and found[2] == 'running' then
    redis.call('ZADD', ns .. 'leases:' .. q, now + lease, id)
    if progress ~= '' then
      redis.call('SET', ns .. 'progress:' .. id, progress, 'PX', LONGEST)
    end
    if found[3] then
      cancelled[#cancelled + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
return {lost, cancelled}
