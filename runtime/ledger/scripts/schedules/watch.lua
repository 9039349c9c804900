-- A scheduler stays alive. ARGV: scheduler, digest, version up to which it knows what was changed. Returns now, 1 if it is
-- registered, 1 if its set is the current one, the version, ids that were changed since (nil for too many).
-- include: states schedules
local MOST = 500
local name, digest, seen = ARGV[FIRST], ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
see_clock()
local known = lives(name, digest)
if known then
  renew(name)
end
local current = elect()
if known then
  keep_set(digest, current)
end
local found = redis.call('HMGET', ns .. 'schedules', 'version', 'floor')
local version, floor = tonumber(found[1] or 0), tonumber(found[2] or 0)
local changed = false
if seen >= floor and seen <= version then
  changed = redis.call('ZRANGE', ns .. 'schedule_changes', '(' .. seen, '+inf', 'BYSCORE', 'LIMIT', 0, MOST + 1)
  changed = #changed <= MOST and changed
end
return {now, known and 1 or 0, known and current == digest and 1 or 0, version, changed}
