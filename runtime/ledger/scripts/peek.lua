-- What waits on lists of Celery's own clients, oldest first; nothing is taken. ARGV: how many messages of all lists, bytes
-- of one at most, bytes in all, keys. Returns key, message, bytes, sha1 of each; of one that is too long, in place of the
-- message what is around its long strings, and the sha1: else whoever reads it knows that.
local LONG_STRING, LONG_OUTLINE = 2000, 20000
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

-- A message of which strings are empty that are long, its body at least: JSON still if they have no quotes in them, as
-- base64 has none. '' if the rest is long, too.
local function outline(message)
  local parts, size, from = {}, 0, 1
  repeat
    local quote = string.find(message, '"', from, true) or #message
    if quote - from <= LONG_STRING then
      parts[#parts + 1] = string.sub(message, from, quote)
      size = size + #parts[#parts]
    else
      parts[#parts + 1] = '"'
    end
    from = quote + 1
  until from > #message or size > LONG_OUTLINE
  return size <= LONG_OUTLINE and table.concat(parts) or ''
end

local answer = {}
for _, key in ipairs(lists) do
  for place = 1, math.ceil(most / #lists) do
    local message = left > 0 and redis.call('LINDEX', key, -place)
    if not message then
      break
    end
    local short = #message <= longest
    local shown = short and message or outline(message)
    left = left - #shown
    for _, value in ipairs({key, shown, #message, short and '' or redis.sha1hex(message)}) do
      answer[#answer + 1] = value
    end
  end
end
return answer
