-- Keep lines of runs' logs, the newest. ARGV: how many, and how many bytes, a run has at most; then of each run: id, whether
-- the first of these lines may be there already (1: its answer was lost), how many lines follow, these, oldest first. Of a run that is not there nothing is kept. Its hash says in `lines` how many there have
-- been, in `line_bytes` how much there is.
local most, most_bytes = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
local PIECE = 500

-- The first that is not there yet: the lines up to the last one that is there have been kept.
local function first_new(id, from, to)
  local last = redis.call('LINDEX', ns .. 'lines:' .. id, -1)
  for at = to, from, -1 do
    if ARGV[at] == last then
      return at + 1
    end
  end
  return from
end

local function keep(id, from, to)
  local run, lines, bytes = ns .. 'run:' .. id, ns .. 'lines:' .. id, 0
  for at = from, to do
    bytes = bytes + #ARGV[at]
  end
  for at = from, to, PIECE do
    redis.call('RPUSH', lines, unpack(ARGV, at, math.min(to, at + PIECE - 1)))
  end
  redis.call('HINCRBY', run, 'lines', to - from + 1)
  bytes = redis.call('HINCRBY', run, 'line_bytes', bytes)
  local size, before = redis.call('LLEN', lines), bytes
  while size > 1 and (size > most or bytes > most_bytes) do
    bytes = bytes - #redis.call('LPOP', lines)
    size = size - 1
  end
  if bytes < before then
    redis.call('HSET', run, 'line_bytes', string.format('%d', bytes))
  end
  local left = redis.call('PTTL', run)
  redis.call('PEXPIRE', lines, left > 0 and left or LONGEST)
end

local at = FIRST + 2
while at <= #ARGV do
  local id, again, count = ARGV[at], ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
  local from, to = at + 3, at + 2 + count
  if count > 0 and redis.call('EXISTS', ns .. 'run:' .. id) == 1 then
    from = again and first_new(id, from, to) or from
    if from <= to then
      keep(id, from, to)
    end
  end
  at = to + 1
end
