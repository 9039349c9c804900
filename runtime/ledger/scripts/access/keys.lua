-- Access keys, for the scripts of access/.
--
-- access          hash: id -> key (JSON: name, hash, scopes, created_at, expires_at)
-- access_used     hash: id -> when it was last used (ms), told once a minute
-- access_version  changes with `access`, so that who knows them sees that in one look
-- access_taken    set of digests: files of older versions that were taken over
local KEYS_HASH, USED = ns .. 'access', ns .. 'access_used'

local function changed()
  redis.call('SET', ns .. 'access_version', now .. ':' .. number())
end
