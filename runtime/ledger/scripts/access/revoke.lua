-- Forget a key. ARGV: its id, 1 to do so even if nobody could administer the system afterwards. Returns revoked, unknown, last.
-- include: access/keys
local id, forced = ARGV[FIRST], ARGV[FIRST + 1] == '1'

local function administers(text)
  local key = cjson.decode(text)
  if type(key.expires_at) == 'number' and key.expires_at * 1000 <= now then
    return false
  end
  for _, scope in ipairs(key.scopes) do
    if scope == 'admin' then
      return true
    end
  end
  return false
end

local key = redis.call('HGET', KEYS_HASH, id)
if not key then
  return 'unknown'
end
if not forced and administers(key) then
  local others = 0
  for _, other in ipairs(redis.call('HVALS', KEYS_HASH)) do
    others = others + (other ~= key and administers(other) and 1 or 0)
  end
  if others == 0 then
    return 'last'
  end
end
redis.call('HDEL', KEYS_HASH, id)
redis.call('HDEL', USED, id)
changed()
return 'revoked'
