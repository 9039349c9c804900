-- What wrk sends, from the arguments after "--" (METHOD PATH [BODY], as load.py has them), and what it counted, as one line of JSON.

function init(args)
   wrk.method = args[1]
   wrk.path = args[2]
   if args[3] then
      wrk.body = args[3]
      wrk.headers["Content-Type"] = "application/json"
   end
end

function done(summary)
   local e = summary.errors
   local errors = e.connect + e.read + e.write + e.status + e.timeout
   io.write(string.format('\n{"requests": %d, "seconds": %.6f, "errors": %d}\n',
      summary.requests, summary.duration / 1000000, errors))
end
