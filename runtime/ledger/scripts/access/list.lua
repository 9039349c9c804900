-- Every key, and when each was last used (ms): two flat lists.
-- include: access/keys
return {redis.call('HVALS', KEYS_HASH), redis.call('HGETALL', USED)}
