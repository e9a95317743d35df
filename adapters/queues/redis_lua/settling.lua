-- Verdicts. A lost claim changes nothing; a settlement that was carried out is told by its nonce and verdict.

local settling = {}

function settling.ack(message)
  forget(message)
end

function settling.reject(message, fields)
  -- A server without memory lets a script go on that has changed something, and this may always be changed.
  call('XCLAIM', message.lane, GROUP, fields.consumer, 0, message.id, 'JUSTID')
  local entry = call('XRANGE', message.lane, message.id, message.id)[1]
  local kept = entry and fields_of(entry) or {body = '', job = '', user = message.user, at = fields.at,
    submission = redis.sha1hex(start .. message.ref):sub(1, 24)}
  kept.priority = message.level
  bury(kept, fields.note, fields.reason, fields.at)
  forget(message)
end

function settling.retry(message, fields)
  if fields.after > 0 then
    call('XCLAIM', message.lane, GROUP, LATER, 0, message.id, 'JUSTID')
    call('ZADD', start .. 'later', now + fields.after, message.ref)
  else
    free(message)
    ring()
  end
  call('HSET', start .. 'notes', message.number, fields.note)
  call('ZREM', start .. 'claims', message.ref)
end

settling.release = settling.retry

function operations.settle(ref, nonce, verdict, after, note, reason, at)
  local message = message_of(ref)
  local consumer = held(message, nonce)
  if not consumer then return call('ZSCORE', start .. 'settled', nonce .. verdict) and 1 or 0 end
  settling[verdict](message, {after = tonumber(after), note = note, reason = reason, at = at,
    consumer = consumer})
  leave(message, consumer)
  call('DEL', start .. 'asked:' .. nonce)
  call('ZADD', start .. 'settled', now, nonce .. verdict)
  call('ZREMRANGEBYSCORE', start .. 'settled', '-inf', now - SETTLED_MS)
  call('ZREMRANGEBYRANK', start .. 'settled', 0, -SETTLED_MAX - 1)
  return 1
end

function operations.put(body, submission, job, user, priority, at)
  add({body = body, submission = submission, job = job, user = user, priority = priority, at = at})
  ring()
  return 1
end

function operations.withdraw(job, consumer, nonce, lease, process, at)
  take_in(at)
  free_what_is_due(process)
  local taken, mark = {}, mark_of(job)
  for i, ref in ipairs(call('ZRANGEBYLEX', start .. 'refs', '[' .. mark .. '.', '(' .. mark .. '/', 'LIMIT', 0, MANY)) do
    local message = message_of(ref)
    local own = nonce .. string.format('%04x', i)
    if not call('ZSCORE', start .. 'claims', ref) then
      local claimant = {consumer = own .. consumer, nonce = own, lease = tonumber(lease)}
      taken[#taken + 1] = claim(message.level, message.user, message.id, claimant)
    end
  end
  return taken
end
