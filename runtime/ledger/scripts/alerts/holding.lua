-- Who looks at the alerts' rules, and what is to be sent.
--
-- alerts         hash: holder, token (the fence of who holds it), until (ms)
-- alert_states   hash: what is known of each rule that is not well, JSON
-- alert_outbox   sorted set of `channel:rule:message` by the order they were made in: what is to be sent
-- alert:{that}   hash: event, body, made (ms), due (ms), tries, error
-- alert_told     sorted set of messages by ms: those of the last hour
-- alert_recent   list of JSON: what was sent last, or given up
-- alert_workers alert_lost   sorted sets of workers: by the ms of their last beat; by ms, those that went without a word
local HOUR, DAY = 3600000, 86400000
local RECENT = 100
local all, outbox, told = ns .. 'alerts', ns .. 'alert_outbox', ns .. 'alert_told'

local function holds(token)
  local found = redis.call('HMGET', all, 'token', 'until')
  return found[1] == token and tonumber(found[2]) > now
end

-- A message, to be sent through each of its channels ("webhook,run").
local function post(message, rule, event, body, channels)
  for channel in string.gmatch(channels, '[^,]+') do
    local name = channel .. ':' .. rule .. ':' .. message
    local key = ns .. 'alert:' .. name
    redis.call('HSET', key, 'event', event, 'body', body, 'made', now, 'due', now, 'tries', 0, 'error', '')
    redis.call('PEXPIRE', key, DAY + SLACK)
    redis.call('ZADD', outbox, number(), name)
  end
end
