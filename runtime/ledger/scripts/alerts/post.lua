-- Have a message sent that no rule asked for. ARGV: message, rule, event, body, channels.
-- include: alerts/holding
post(unpack(ARGV, FIRST, FIRST + 4))
return 1
