-- Forget finished runs. ARGV: ids. Returns for each: purged, open or unknown.
-- include: runs ends
local answer = {}
for at = FIRST, #ARGV do
  local id = ARGV[at]
  local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'fn')
  if not found[1] then
    answer[#answer + 1] = 'unknown'
  elseif found[1] == 'succeeded' or found[1] == 'failed' or found[1] == 'cancelled' then
    redis.call('ZREM', ns .. 'dead:' .. found[2], id)
    redis.call('ZREM', ns .. 'done:' .. found[2], id)
    forget(id)
    answer[#answer + 1] = 'purged'
  else
    answer[#answer + 1] = 'open'
  end
end
return answer
