-- What waits on lists of Celery's own clients, oldest first; nothing is taken. ARGV: how many messages of all lists, bytes
-- of one at most, bytes in all, keys. Returns key, message, bytes, sha1 (of one that is too long, which is left out) of each.
local most, longest, left = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local first, lists = FIRST + 3, {}
for at = first, #ARGV, 1000 do
  local upto = math.min(at + 999, #ARGV)
  if redis.call('EXISTS', unpack(ARGV, at, upto)) > 0 then
    for each = at, upto do
      if redis.call('TYPE', ARGV[each]).ok == 'list' then
        lists[#lists + 1] = ARGV[each]
      end
    end
  end
end
local answer = {}
for _, key in ipairs(lists) do
  for place = 1, math.ceil(most / #lists) do
    local message = left > 0 and redis.call('LINDEX', key, -place)
    if not message then
      break
    end
    local short = #message <= longest
    left = left - (short and #message or 0)
    for _, value in ipairs({key, short and message or '', #message, short and '' or redis.sha1hex(message)}) do
      answer[#answer + 1] = value
    end
  end
end
return answer
