-- Take messages of Celery's own clients off their lists, each in one step with the run it becomes, or the dead letter.
-- ARGV of each: key, sha1 of the message as it was read, until when it may begin (ms, '' for ever), why it is none that can
-- be run (a failure as JSON, '' if it can; its payload is then the message as it came); then the submission.
-- Returns a word for each: accepted, known, full (it stays), refused; gone if another message is the oldest by now.
-- include: runs accepting ends
local HEAD = 4
local LONG = 2000000 -- bytes of a message that on_failure is not told: to look through it would hold up the store
local answer, stays = {}, {}
block = 2 * math.ceil((#ARGV - FIRST + 1) / (HEAD + 1))

local function refuse(id, failure, message)
  local run, input = keys_of(id)
  local found = redis.call('HMGET', run, 'q', 'fn', 'prio', 'key')
  redis.call('ZREM', ns .. 'ready:' .. found[1], id)
  if found[4] then
    lanes().leave(id, found[1], found[3], found[2], found[4])
  end
  redis.call('HDEL', run, 'in')
  redis.call('SET', input, #message <= LONG and message or 'null')
  close(id, found[2], 'failed', 'bad message', failure)
  if #message > LONG then
    redis.call('SET', input, message, 'KEEPTTL')
  end
end

local function adopt(at)
  local key, digest, expires, failure = unpack(ARGV, at, at + HEAD - 1)
  local message = not stays[key] and redis.call('LINDEX', key, -1)
  if not message or redis.sha1hex(message) ~= digest then
    stays[key] = stays[key] or 'gone'
    return stays[key]
  end
  local word, id = accept(ARGV[at + HEAD])
  if word == 'full' then
    stays[key] = word
    return word
  end
  redis.call('RPOP', key)
  if word == 'accepted' and failure ~= '' then
    refuse(id, failure, message)
    return 'refused'
  end
  if word == 'accepted' and expires ~= '' then
    redis.call('HSET', keys_of(id), 'expires', expires)
  end
  return word
end

for at = FIRST, #ARGV, HEAD + 1 do
  answer[#answer + 1] = adopt(at)
end
return answer
