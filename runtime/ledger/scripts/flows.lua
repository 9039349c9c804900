-- Flows: how the end of one step begins, or ends, others. Behind runs.lua.
--
-- flow:{id}  hash, there as long as the flow's run:
--   node:{n}    JSON: kind first count collect fn q prio delay age (ms) pieces, as in flows/nodes.py; path: what is above the
--               node, nearest first; levels: of what a collecting group may stop, where each level below it begins and ends
--   state:{n}   open (a step), begun (a chain, a group); succeeded; failed, cancelled. With the round it is of, all but
--               succeeded: what did not succeed in an earlier round has not begun
--   result:{n}  JSON; of a child of a collecting group, its outcome
--   left:{n}    of a group: how many children are not decided
--   size steps open succeeded failed cancelled   how many nodes, steps, and steps in these states
--   round stops reason error trace payload_max fn   times it was begun, what was stopped since, why the flow failed, ...
-- flows      sorted set of what is left to be done, by ms: round:what:node:from:flow
--
-- A script notes ends of steps (close), and at its own end does what follows from them (go_on): so much at most, the rest is
-- left to the reaper. What is read of a flow is read once a script, and what is changed is written at its end.

-- They are made only where a script meets one: that costs half as much as to finish a run.
local made
local function flows()
  if not made then
    made = (function()
      -- include: acts flows/nodes flows/ends flows/steps flows/going
      return {
        go_on = go_on, go_on_with_rest = go_on_with_rest, is_step_stopped = is_step_stopped, begin = begin,
        cancel = cancel, redrive = redrive
      }
    end)()
  end
  return made
end

-- At the end of each script that may have closed a step.
local function go_on()
  if #ended > 0 then
    flows().go_on()
  end
end
