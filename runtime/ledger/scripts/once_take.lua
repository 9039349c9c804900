-- Ask for a key. ARGV: its digest, digest of the request, "call" or "run", its id, lease of a call in ms or the token of
-- a run. Returns mine; or lost (the run is its worker's no longer); or what look_once says, with what is kept, with the
-- id of the run, or with how often this run has met another's hold.
-- include: once
local digest, request, kind, id, more = unpack(ARGV, FIRST, FIRST + 4)
local run = ns .. 'run:' .. id
if kind == 'run' then
  local found = redis.call('HMGET', run, 'token', 'state')
  if found[1] ~= more or found[2] ~= 'running' then
    return {'lost'}
  end
end
local verdict, place, holder = look_once(digest, request)
if verdict == 'free' or (verdict == 'held' and holder == id) then
  if kind == 'run' then
    write_once(place, LONGEST, 'run', id, 'request', request)
    redis.call('HSET', run, 'once', digest) -- finish looks for it
  else
    write_once(place, tonumber(more), 'holder', id, 'request', request, 'over', now + more, 'lease', more)
  end
  return {'mine'}
end
if verdict == 'held' and kind == 'run' then
  return {verdict, redis.call('HINCRBY', run, 'waits', 1)}
end
return tell_once(verdict, place, holder)
