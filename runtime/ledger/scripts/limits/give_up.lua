-- Calls that were told to wait wait no more. ARGV: function, slot, holder of each.
for at = FIRST, #ARGV, 3 do
  local fn, slot, holder = unpack(ARGV, at, at + 2)
  redis.call('ZREM', key_of_two('asked:', fn, slot), holder)
  if redis.call('ZREM', key_of_two('callers:', fn, slot), holder) == 1 then
    lanes().wake(fn, slot)
  end
end
