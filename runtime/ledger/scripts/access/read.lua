-- What keys there are. ARGV: the version that is known; ids of keys that were used since. Returns the version, and, unless it
-- is the known one, the keys.
-- include: access/keys
for at = FIRST + 1, #ARGV do
  if redis.call('HEXISTS', KEYS_HASH, ARGV[at]) == 1 then
    redis.pcall('HSET', USED, ARGV[at], now) -- a store that is full shall let callers in all the same
  end
end
local version = redis.call('GET', ns .. 'access_version') or ''
if version == ARGV[FIRST] then
  return {version}
end
return {version, redis.call('HVALS', KEYS_HASH)}
