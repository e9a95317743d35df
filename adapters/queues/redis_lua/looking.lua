-- Looks at what stands in the queue.

function operations.depth()
  local added = call('TYPE', inbox).ok == 'stream' and call('XLEN', inbox) or 0
  local elsewhere = call('ZCOUNT', start .. 'claims', '(' .. now, '+inf') + call('ZCOUNT', start .. 'later', '(' .. now, '+inf')
  return call('ZCARD', start .. 'refs') - elsewhere + added
end

local function waiting_in(level, limit)
  local found = {}
  for _, user in ipairs(call('ZRANGE', start .. 'level:' .. level, 0, limit - 1)) do
    for _, entry in ipairs(pending(lane_of(level, user), '-', '+', limit, FREE)) do
      local number = entry[1]:match('^%d+')
      found[#found + 1] = {tonumber(number), '0.' .. number .. '.' .. level .. '.' .. user}
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found
end

-- Refs, each with how it stands: free, later or claimed, and when that ends.
function operations.look(told_limit, at)
  take_in(at)
  local limit, seen = tonumber(told_limit), {}
  for _, level in ipairs(call('ZRANGE', start .. 'levels', 0, -1)) do
    for _, found in ipairs(waiting_in(level, limit - #seen)) do
      if #seen < limit then seen[#seen + 1] = {found[2], FREE, '0'} end
    end
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
