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

-- Gathered, for one command a few hundred functions: workers register every few seconds, with all of theirs.
local function note_functions(from, to)
  local names = {}
  for at = from, to, 2 do
    names[#names + 1] = ARGV[at]
  end
  redis.call('SADD', mine, unpack(names)) -- for reapers, those of workers that know no limits too
  redis.call('HSET', knows, unpack(ARGV, from, to))
  for place, before in ipairs(redis.call('HMGET', ns .. 'limits', unpack(names))) do
    local fn, limits = names[place], ARGV[from + 2 * place - 1]
    if (before or '') ~= limits then
      redis.call('HSET', ns .. 'limits', fn, limits)
      look_at_all(fn)
    end
  end
  redis.call('HDEL', ns .. 'on_failure', unpack(names))
end

redis.call('DEL', mine, knows)
redis.call('HSET', knows, '', '') -- an empty hash is none, and would read as not registered
for at = first, first + 2 * count - 1, 2 * PIECE do
  note_functions(at, math.min(at + 2 * PIECE, first + 2 * count) - 1)
end
for at = first + 2 * count, #ARGV, 2 do
  redis.call('HSET', ns .. 'on_failure', ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', mine, stays + SLACK)
redis.call('PEXPIRE', knows, stays + SLACK)
redis.call('SET', ns .. 'info:' .. worker, info, 'PX', stays + SLACK)
redis.call('ZADD', ns .. 'workers', now + stays, worker)
