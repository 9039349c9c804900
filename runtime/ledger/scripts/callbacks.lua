-- What was asked to be told of the end of a run. Within ends.lua.
--
-- run:{id}      callback: the URL; called: the message of its last end
-- callback:{m}  hash of a message: run, fn, url, state (waiting, delivered, dead), what is to be told, what came of it
-- callbacks callbacks_dead   sorted sets of messages: those that wait by ms of their next try, given up ones by ms
-- callbacks_used  there has been a run with a callback: else the ends of runs cost nothing more
local CALLBACK_LASTS = math.max(LONGEST, 8 * 86400000)
local CALLBACK_RESULT = 262144 -- bytes of a result that is told; of a longer one only that there is one

-- Of runs whose `callback` the script has read anyway: that field, or false. Else it is asked once whether any is worth
-- to be looked for.
local read_callbacks = {}
local callbacks_used
local function has_callback(id)
  if read_callbacks[id] ~= nil then
    return read_callbacks[id]
  elseif callbacks_used == nil then
    callbacks_used = redis.call('EXISTS', ns .. 'callbacks_used') == 1
  end
  return callbacks_used
end

-- The run has ended: what is to be told is kept apart from it, which may be forgotten, or run again, before it is told.
local function note_callback(id, fn, state, reason, output)
  local run = keys_of(id)
  local found = redis.call('HMGET', run, 'callback', 'accepted', 'claimed', 'failures', 'crashes', 'trigger', 'trace')
  if not found[1] then
    return
  end
  local message = id .. '_' .. string.format('%d', number())
  local key, is_long = ns .. 'callback:' .. message, #output > CALLBACK_RESULT
  redis.call(
    'HSET', key, 'run', id, 'fn', fn, 'url', found[1], 'state', 'waiting', 'tries', 0, 'token', 0, 'ended', now,
    'outcome', state, 'reason', reason, 'output', is_long and '' or output, 'long', is_long and #output or 0,
    'accepted', found[2], 'claimed', found[3] or '', 'failures', found[4] or 0, 'crashes', found[5] or 0,
    'trigger', found[6], 'trace', found[7] or ''
  )
  redis.call('PEXPIRE', key, CALLBACK_LASTS)
  redis.call('ZADD', ns .. 'callbacks', now, message)
  redis.call('HSET', run, 'called', message)
end
