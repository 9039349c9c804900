-- A call has ended that holds a key. ARGV: digest, id of the call, how long to keep the outcome (ms, 0: another may have
-- the key at once); names and values of what is kept. Returns 1; 0 if the key is another's.
-- include: once
local digest, id, window = ARGV[FIRST], ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
local place = ns .. 'once:' .. digest
local found = redis.call('HMGET', place, 'holder', 'kept', 'request')
if found[1] ~= id then
  return 0
elseif found[2] then
  return 1 -- this is asked once more, because the answer was lost
elseif window == 0 then
  redis.call('DEL', place)
else
  write_once(
    place, window, 'kept', 1, 'holder', id, 'request', found[3], 'over', now + window, unpack(ARGV, FIRST + 3)
  )
end
return 1
