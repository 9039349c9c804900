-- What is known of schedules. Behind ticks.lua and schedules.lua.

-- Definition and override (each as told_of makes it), its state, how many ticks are open and held; false if there is none.
local function entry_of(id, current)
  local told = redis.call('ZSCORE', ns .. 'schedule_ids', id) and definition_of(id, current)
  if not told then
    return false
  end
  return {
    told, redis.call('HGET', ns .. 'overrides', id), redis.call('HGET', STATES, id), count_open(ns .. 'ticks', id),
    redis.call('ZCARD', ns .. 'held:' .. id)
  }
end
