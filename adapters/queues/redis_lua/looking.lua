-- Looks at what stands in the queue.

function operations.depth()
  local added = call('TYPE', inbox).ok == 'stream' and call('XLEN', inbox) or 0
  local elsewhere = call('ZCOUNT', start .. 'claims', '(' .. now, '+inf') + call('ZCOUNT', start .. 'later', '(' .. now, '+inf')
  return call('ZCARD', start .. 'refs') - elsewhere + added
end

-- The first messages of a level by their number; the users' oldest ones are known, each next one is asked for.
local function waiting_in(level, limit)
  local found, oldest = {}, call('ZRANGE', start .. 'level:' .. level, 0, limit - 1, 'WITHSCORES')
  local heads = {}
  for i = 1, #oldest, 2 do heads[#heads + 1] = {tonumber(oldest[i + 1]), oldest[i]} end
  while #found < limit and #heads > 0 do
    local first = 1
    for i = 2, #heads do if heads[i][1] < heads[first][1] then first = i end end
    local number, user = heads[first][1], heads[first][2]
    found[#found + 1] = '0.' .. string.format('%.0f', number) .. '.' .. level .. '.' .. user
    local id = '(' .. string.format('%.0f', number) .. '-1'
    local following = pending(lane_of(level, user), id, '+', 1, FREE)[1]
    if following then heads[first][1] = tonumber(following[1]:match('^%d+')) else table.remove(heads, first) end
  end
  return found
end

-- Refs, each with how it stands: free, later or claimed, and when that ends.
function operations.look(told_limit, at)
  take_in(at)
  local limit, seen = tonumber(told_limit), {}
  for _, level in ipairs(call('ZRANGE', start .. 'levels', 0, -1)) do
    for _, ref in ipairs(waiting_in(level, limit - #seen)) do seen[#seen + 1] = {ref, FREE, '0'} end
    if #seen >= limit then break end
  end
  for _, key in ipairs({'later', 'claims'}) do
    local found = call('ZRANGE', start .. key, 0, limit - 1, 'WITHSCORES')
    for i = 1, #found, 2 do seen[#seen + 1] = {found[i], key, found[i + 1]} end
  end
  return seen
end

function operations.read(...)
  local found = {}
  for i, ref in ipairs({...}) do
    local message = message_of(ref)
    local entry = call('XRANGE', message.lane, message.id, message.id)[1]
    local fields = entry and fields_of(entry)
    found[i] = fields and {fields.submission, fields.at, fields.body, fields.job, fields.user} or {}
  end
  return found
end
