-- Calls that have a key in common, of which one is carried out. For scripts that have to do with such keys.
--
-- once:{digest}  hash. Of a call under way: holder (its id), request (a digest of it, '' where any will do), over (until
--                when, ms, if nothing more is heard) and lease (ms). Of a run that holds the key for as long as it is open: run.
--                Of a run that is the call itself: run, request, accepted, over. Of an outcome: kept, over, and answer
--                or result or both.
local WINDOW = 86400000 -- ms that a run's result is kept
local OPEN = {scheduled = true, queued = true, running = true, retrying = true}

-- Whether the store has been there for less than a lease: who holds one may not have got through yet to renew it.
local function is_early(lease)
  if ARGV[2] ~= '' then
    return false -- a test's clock
  end
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)'))
  return uptime and uptime * 1000 < lease
end

-- What a key stands for: free, or kept, other (it was another request's), run (it is a run), held. And its hash's key.
local function look_once(digest, request)
  local place = ns .. 'once:' .. digest
  local found = redis.call('HMGET', place, 'kept', 'accepted', 'holder', 'run', 'request', 'over', 'lease')
  local lasts = tonumber(found[6] or 0) > now
  local verdict = 'free'
  if found[1] and lasts then
    verdict = 'kept'
  elseif found[2] and lasts then
    verdict = 'run'
  elseif not found[1] and not found[2] then
    if found[3] then
      verdict = (lasts or is_early(tonumber(found[7]))) and 'held' or 'free'
    elseif found[4] then
      verdict = OPEN[redis.call('HGET', ns .. 'run:' .. found[4], 'state')] and 'held' or 'free'
    end
  end
  if verdict ~= 'free' and (found[5] or '') ~= request then
    verdict = 'other'
  end
  return verdict, place, found[3] or found[4]
end

-- The answer of a script to whoever may not have a key.
local function tell_once(verdict, place, holder)
  if verdict == 'kept' then
    local kept = redis.call('HMGET', place, 'answer', 'result')
    return {verdict, kept[1], kept[2]}
  end
  return {verdict, verdict == 'run' and holder}
end

local function write_once(place, stays, ...)
  redis.call('DEL', place)
  redis.call('HSET', place, ...)
  redis.call('PEXPIRE', place, stays + SLACK)
end

-- A run has succeeded that holds a key: its result is that of all.
local function settle_once(digest, id, result)
  local place = ns .. 'once:' .. digest
  local found = redis.call('HMGET', place, 'run', 'accepted')
  if found[1] == id and not found[2] then
    write_once(place, WINDOW, 'kept', 1, 'result', result, 'over', now + WINDOW)
  end
end
