-- A worker says what it knows. ARGV: worker, how long that holds (ms), info (JSON), number of functions; function,
-- limits (JSON, '' for none) of each; then function, JSON of [target, queue] of each on_failure.
local worker, stays, info, count = unpack(ARGV, FIRST, FIRST + 3)
local mine, knows = ns .. 'worker:' .. worker, ns .. 'knows:' .. worker
local first = FIRST + 4
local PIECE = 500 -- values of one command: Lua's stack holds some thousands

-- The limits of a function are others than before: whatever waits for them is looked at, by the reaper.
local function look_at_all(fn)
  for _, lane in ipairs(redis.call('SMEMBERS', ns .. 'lanes:' .. fn)) do
    local keys = redis.call('ZRANGE', ns .. 'keys:' .. lane, 0, -1)
    keys[#keys + 1] = ''
    for at = 1, #keys, PIECE do
      local values = {}
      for place = at, math.min(#keys, at + PIECE - 1) do
        values[#values + 1] = now
        values[#values + 1] = 'r' .. lanes().name_of(fn, keys[place])
      end
      redis.call('ZADD', ns .. 'until', unpack(values))
    end
  end
  redis.call('ZADD', ns .. 'until', now, 'b' .. fn)
end

redis.call('DEL', mine, knows)
redis.call('HSET', knows, '', '') -- an empty hash is none, and would read as not registered
for at = first, first + 2 * count - 1, 2 do
  local fn, limits = ARGV[at], ARGV[at + 1]
  redis.call('SADD', mine, fn) -- for reapers, those of workers that know no limits too
  redis.call('HSET', knows, fn, limits)
  if (redis.call('HGET', ns .. 'limits', fn) or '') ~= limits then
    redis.call('HSET', ns .. 'limits', fn, limits)
    look_at_all(fn)
  end
  redis.call('HDEL', ns .. 'on_failure', ARGV[at])
end
for at = first + 2 * count, #ARGV, 2 do
  redis.call('HSET', ns .. 'on_failure', ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', mine, stays + SLACK)
redis.call('PEXPIRE', knows, stays + SLACK)
redis.call('SET', ns .. 'info:' .. worker, info, 'PX', stays + SLACK)
redis.call('ZADD', ns .. 'workers', now + stays, worker)
