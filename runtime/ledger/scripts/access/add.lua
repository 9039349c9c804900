-- Keep a key. ARGV: "first" (only if there is no key at all) or "new", its id, itself (JSON). Returns 1, or 0 if it is not kept.
-- include: access/keys
local mode, id, key = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
if mode == 'first' and redis.call('EXISTS', KEYS_HASH) == 1 then
  return 0
end
local kept = redis.call('HSETNX', KEYS_HASH, id, key)
if kept == 1 then
  changed()
end
return kept
