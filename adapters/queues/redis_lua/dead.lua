-- Dead letters: a stream, and two ways to find one in it.


local function bury(fields, note, reason, at)
  local handle = fields.submission
  if call('HEXISTS', start .. 'dead:ids', handle) == 1 then
    handle = handle .. '-' .. string.format('%.0f', call('INCR', start .. 'number'))
  end
  local id = call('XADD', start .. 'dead', '*', 'submission', handle, 'reason', reason, 'at', at, 'note', note,
    'body', fields.body, 'job', fields.job, 'user', fields.user, 'priority', fields.priority, 'enqueued_at', fields.at)
  call('HSET', start .. 'dead:ids', handle, id)
  call('ZADD', start .. 'dead:at', at, handle)
end

local function unbury(handle)
  local id = call('HGET', start .. 'dead:ids', handle)
  if not id then return nil end
  local entry = call('XRANGE', start .. 'dead', id, id)[1]
  call('XDEL', start .. 'dead', id)
  call('HDEL', start .. 'dead:ids', handle)
  call('ZREM', start .. 'dead:at', handle)
  return entry and fields_of(entry)
end

function operations.dead(after, count)
  local rows = {}
  for i, entry in ipairs(call('XRANGE', start .. 'dead', '(' .. after, '+', 'COUNT', count)) do
    local fields = fields_of(entry)
    rows[i] = {entry[1], fields.submission or '', fields.reason or '', fields.at or '0', fields.note or '',
      fields.body or '', fields.job or ''}
  end
  return rows
end

function operations.retry_dead(handle, submission, at)
  local fields = unbury(handle)
  if not fields then return 0 end
  fields.submission, fields.at = submission, at
  add(fields)
  ring()
  return 1
end

function operations.drop_dead(handle)
  return unbury(handle) and 1 or 0
end

function operations.prune(before)
  local old = call('ZRANGEBYSCORE', start .. 'dead:at', '-inf', '(' .. before, 'LIMIT', 0, MANY)
  for _, handle in ipairs(old) do unbury(handle) end
  return #old
end
