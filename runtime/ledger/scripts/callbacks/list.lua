-- Messages that wait, the next first, or are given up, the newest first. ARGV: waiting or dead, how many. Returns how many
-- there are; of each: message, and its fields in the order of `names`.
local is_dead, most = ARGV[FIRST] == 'dead', tonumber(ARGV[FIRST + 1])
local set = ns .. (is_dead and 'callbacks_dead' or 'callbacks')
local names = {'url', 'state', 'tries', 'status', 'error', 'tried', 'next', 'ended', 'run', 'fn', 'outcome'}
local answer = {redis.call('ZCARD', set)}
for _, message in ipairs(redis.call(is_dead and 'ZREVRANGE' or 'ZRANGE', set, 0, most - 1)) do
  local found = redis.call('HMGET', ns .. 'callback:' .. message, unpack(names))
  if found[1] then
    answer[#answer + 1] = {message, unpack(found, 1, #names)}
  end
end
return answer
