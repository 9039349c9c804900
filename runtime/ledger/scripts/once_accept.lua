-- Accept a run that is a call with a key. ARGV: digest, digest of the request, how long the key is the run's (ms); a
-- submission. Returns accepted or full; or what look_once says, as once_take does.
-- include: runs accepting once
local digest, request, window = ARGV[FIRST], ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
local verdict, place, holder = look_once(digest, request)
if verdict ~= 'free' then
  return tell_once(verdict, place, holder)
end
local word, id = accept(ARGV[FIRST + 3])
if word == 'full' then
  return {word}
end
write_once(place, window, 'run', id, 'accepted', 1, 'request', request, 'over', now + window)
return {'accepted', id}
