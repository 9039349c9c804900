-- What a run has logged. ARGV: id, the number of the line to begin after (below 0: so many from the end), how many. Returns
-- its state, how many there have been, how many of them are still there, the number of the first line here, lines; or nil.
local id, after, limit = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local found = redis.call('HMGET', ns .. 'run:' .. id, 'state', 'lines')
if not found[1] then
  return false
end
local size, total = redis.call('LLEN', ns .. 'lines:' .. id), tonumber(found[2] or 0)
local from = math.max(0, after < 0 and size + after or after - (total - size))
local lines = redis.call('LRANGE', ns .. 'lines:' .. id, from, from + limit - 1)
return {found[1], total, size, total - size + from + 1, lines}
