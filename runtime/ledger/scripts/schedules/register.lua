-- A scheduler lives, with this set of definitions. ARGV: scheduler, digest, number of its deployment (0: the store's), info, 1 if
-- it is partial.
-- Returns 1 if the set is to be uploaded first, 1 if it is the current one, the number.
-- include: states schedules
local name, digest, wanted, info, partial = unpack(ARGV, FIRST, FIRST + 4)
local set, all = ns .. 'set:' .. digest, ns .. 'schedules'
local head = redis.call('HGET', set, '')
if not head then
  return {1, 0, 0}
end
local known, place = string.match(head, '^(%d+) (%d+)$')
local highest = tonumber(redis.call('HGET', all, 'deployment') or 0)
local number = tonumber(wanted)
if number == 0 then
  number = tonumber(known or highest + 1)
end
place = place or redis.call('HINCRBY', all, 'places', 1)
redis.call('HSET', all, 'deployment', math.max(highest, number))
redis.call('HSET', set, '', string.format('%d %d', math.max(number, known or 0), place))
redis.call(
  'HSET', ns .. 'scheduler:' .. name, 'digest', digest, 'number', number, 'place', place, 'partial', partial, 'info', info
)
renew(name)
local current = elect()
keep_set(digest, current)
return {0, current == digest and 1 or 0, number}
