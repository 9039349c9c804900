-- Take over the keys of an older version's file, once. ARGV: digest of the file; id, key (JSON) of each. Returns how many.
-- include: access/keys
-- By the digest: a file that cannot be set aside shall not bring back, at each start, what was revoked since.
if redis.call('SADD', ns .. 'access_taken', ARGV[FIRST]) == 0 then
  return 0
end
local count = 0
for at = FIRST + 1, #ARGV, 2 do
  count = count + redis.call('HSETNX', KEYS_HASH, ARGV[at], ARGV[at + 1])
end
changed()
return count
