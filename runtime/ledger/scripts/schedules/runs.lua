-- How ticks become runs. Behind runs.lua, ticks.lua and schedules.lua.

-- What a tick's run tells its handler, as JSON. timeout: that part of it, '' for none. planned: ms, as text. since: ticks
-- skipped. success: ms.
local NOTE = '{"schedule":"'

local function note_end(timeout, planned, since, success)
  return '"' .. timeout .. ',"planned":' .. planned .. (since > 0 and string.format(',"missed":%d', since) or '')
    .. (success > 0 and string.format(',"success":%d', success) or '') .. '}'
end

local function note_of(schedule, timeout, planned, since, success)
  return NOTE .. schedule .. note_end(timeout, planned, since, success)
end

-- run: as add_run wants it, with schedule and planned (ms, as text). open: the key of those that are. held: that of those that wait,
-- false if it need not; then it begins when less than `most` are at work.
local function add_tick(run, note, open, held, most)
  if held then
    add_run(run, {'tick', note, 'most', most}, true)
    redis.call('ZADD', held, run.planned, run.id)
  else
    add_run(run, {'tick', note})
  end
  put(open, '0', run.schedule .. ' ' .. run.planned)
end
