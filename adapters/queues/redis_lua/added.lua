-- What foreign producers added to the inbox is moved to its lane, or to the dead letters with a reason.


local function told(entry)
  local parts = {}
  for i = 1, #entry[2] do parts[i] = entry[2][i]:sub(1, 65536) end
  return table.concat(parts, '\n'):sub(1, BODY_MAX)
end

local function sent_at(id)
  local sent = tonumber(id:match('^%d+'))
  return string.format('%.3f', ((sent > 1e12 and sent < now + 86400000) and sent or now) / 1000)
end

local function move(entry, at)
  local given = fields_of(entry)
  local fields = {
    body = (given.body or told(entry)):sub(1, BODY_MAX), job = (given.job or ''):sub(1, NAME_MAX),
    user = (given.user or ''):sub(1, NAME_MAX),
    priority = level_of(given.priority), at = sent_at(entry[1]),
    submission = redis.sha1hex(inbox .. entry[1] .. call('INCR', start .. 'number')):sub(1, 24),
  }
  if given.body then
    add(fields)
  else
    bury(fields, '', 'entry ' .. entry[1] .. ' of stream ' .. inbox .. ' has no field "body": add it with one', at)
  end
  call('XDEL', inbox, entry[1])
  return #fields.body
end

-- A key of another type at the inbox's place is kept under another name, and said.
local function set_aside(kind, at)
  local number = string.format('%.0f', call('INCR', start .. 'number'))
  local aside = start .. 'aside:' .. number
  call('RENAME', inbox, aside)
  bury({submission = redis.sha1hex(aside):sub(1, 24), body = '', job = '', user = '', priority = '0', at = at}, '',
    'key ' .. inbox .. ' was a ' .. kind .. ' where a stream is read: it is ' .. aside .. ' now; use XADD', at)
end

local function move_all(at)
  local kind = call('TYPE', inbox).ok
  if kind ~= 'none' and kind ~= 'stream' then return set_aside(kind, at) end
  local moved, bytes = 0, 0
  while kind == 'stream' and moved < MOVED_MAX and bytes < MOVED_MAX_BYTES do
    local entry = call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
    if not entry then break end
    moved, bytes = moved + 1, bytes + move(entry, at)
  end
end

-- A server without memory takes nothing new in; what it has can be fetched and settled.
local function take_in(at)
  local done, problem = pcall(move_all, at)
  local text = not done and (type(problem) == 'table' and problem.err or tostring(problem)) or ''
  if not done and not text:find('OOM', 1, true) then error(problem, 0) end
end
