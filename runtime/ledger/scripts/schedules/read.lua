-- What is known of schedules. Behind schedules.lua.
local STATE = {'last', 'paused', 'runs', 'missed', 'overlapped', 'last_run', 'success'}

-- Definition and override (each as told_of makes it), how many ticks are open and held, then STATE; false if there is none.
local function entry_of(id, current)
  local told = redis.call('ZSCORE', ns .. 'schedule_ids', id) and definition_of(id, current)
  if not told then
    return false
  end
  return {
    told, redis.call('HGET', ns .. 'overrides', id), redis.call('ZCARD', ns .. 'ticks:' .. id),
    redis.call('ZCARD', ns .. 'held:' .. id), unpack(redis.call('HMGET', ns .. 'schedule:' .. id, unpack(STATE)))
  }
end
