-- All that is known of runs. ARGV: ids. Returns for each: id, fields, attempts, result or error, progress, payload, steps of
-- a flow (how many there are, and are open, succeeded, failed, cancelled), its callback; or nil.
local answer = {}

local function field(fields, name)
  for at = 1, #fields, 2 do
    if fields[at] == name then
      return fields[at + 1]
    end
  end
end

local function steps_of(id, fields)
  for at = 1, #fields, 2 do
    if fields[at] == 'fn' and string.sub(fields[at + 1], 1, 5) == 'flow:' then
      local found = redis.call('HMGET', ns .. 'flow:' .. id, 'steps', 'open', 'succeeded', 'failed', 'cancelled')
      return found[1] and found or {}
    end
  end
  return {}
end

-- Of who is to be told of its end: the message, '' as long as the run is open; the URL; and what came of it.
local function callback_of(fields)
  local url, message
  for at = 1, #fields, 2 do
    if fields[at] == 'callback' then
      url = fields[at + 1]
    elseif fields[at] == 'called' then
      message = fields[at + 1]
    end
  end
  if not url then
    return {}
  end
  return {message or '', url, unpack(redis.call(
    'HMGET', ns .. 'callback:' .. (message or ''), 'state', 'tries', 'status', 'error', 'tried', 'next', 'ended'
  ), 1, 7)}
end

for at = FIRST, #ARGV do
  local id = ARGV[at]
  local run, input, output, log, progress = keys_of(id)
  local fields = redis.call('HGETALL', run)
  answer[#answer + 1] = #fields > 0 and {
    id, fields, redis.call('LRANGE', log, 0, -1), field(fields, 'out') or redis.call('GET', output), redis.call('GET', progress),
    input_of(id, field(fields, 'in')) or false, steps_of(id, fields), callback_of(fields)
  } or false
end
return answer
