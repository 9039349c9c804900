-- Hand back what a worker was given and does not know of: the answer to its claim was lost. ARGV: worker, how many queues,
-- queues; id, token of each run that it does hold. Returns how many.
-- include: runs ends acts flows
local worker, queues = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local held = {}
for at = FIRST + 2 + queues, #ARGV, 2 do
  held[ARGV[at]] = ARGV[at + 1]
end
local count = 0
for at = FIRST + 2, FIRST + 1 + queues do
  for _, id in ipairs(redis.call('ZRANGE', ns .. 'leases:' .. ARGV[at], 0, -1)) do
    local found = redis.call('HMGET', ns .. 'run:' .. id, 'worker', 'token', 'state')
    if found[1] == worker and found[2] ~= held[id] and found[3] == 'running' and hand_back(id, ARGV[at]) then
      count = count + 1
    end
  end
end
go_on()
return count
