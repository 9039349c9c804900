-- Calls have ended. ARGV: function, slot, holder, verdict, failures that open the breaker, ms until it lets one try, 1 if its
-- place is not free yet, of each.
for at = FIRST, #ARGV, 7 do
  local fn, slot, holder, verdict, failures, reset, stays = unpack(ARGV, at, at + 6)
  if tonumber(failures) > 0 then
    lanes().judge(fn, verdict, holder, tonumber(failures), tonumber(reset))
  end
  if stays == '0' and redis.call('ZREM', key_of_two('calls:', fn, slot), holder) == 1 then
    lanes().wake(fn, slot)
  end
end
