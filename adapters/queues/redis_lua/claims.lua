-- Claims: fetched, renewed, lapsed, settled. A claim is its nonce's as long as the pending list says so.


local function free_if_lapsed(ref, process)
  local message = message_of(ref)
  local holder = pending(message.lane, message.id, message.id, 1)[1]
  if not holder then return call('ZREM', start .. 'claims', ref) end
  local lease, whose = holder[2]:match('^%x+%.(%d+)%.(%x+)')
  if not lease then return call('ZREM', start .. 'claims', ref) end
  local left = lease * (whose == process and 2 or 1) - holder[3]
  if left <= 0 then
    free(message)
    call('ZREM', start .. 'claims', ref)
    leave(message, holder[2])
  elseif whose ~= process then
    call('ZADD', start .. 'claims', now + left, ref)
  end
end

local function free_what_is_due(process)
  for _, ref in ipairs(call('ZRANGEBYSCORE', start .. 'later', '-inf', now, 'LIMIT', 0, MANY)) do
    free(message_of(ref))
    call('ZREM', start .. 'later', ref)
  end
  for _, ref in ipairs(call('ZRANGEBYSCORE', start .. 'claims', '-inf', now, 'LIMIT', 0, MANY)) do
    free_if_lapsed(ref, process)
  end
end

-- The claim's consumer; nil where the claim is another's, or no more.
local function held(message, nonce)
  local holder = pending(message.lane, message.id, message.id, 1)[1]
  return holder and holder[2]:sub(1, #nonce) == nonce and holder[2] or nil
end

local function delivery(message, nonce, fields)
  local note = call('HGET', start .. 'notes', message.number) or ''
  if #note > BODY_MAX then note = '{' end
  return {nonce .. '.' .. message.ref, fields.body, fields.submission, fields.at, note, fields.user}
end

local function claim(level, user, id, claimant)
  local lane = lane_of(level, user)
  local entry = call('XCLAIM', lane, GROUP, claimant.consumer, 0, id)[1]
  if not (entry and entry[2]) then return nil end
  local fields, number = fields_of(entry), id:match('^%d+')
  local mark = mark_of(fields.job ~= '' and fields.job or fields.submission)
  local message = message_of(mark .. '.' .. number .. '.' .. level .. '.' .. user)
  call('ZREM', start .. 'later', message.ref)
  call('ZADD', start .. 'claims', now + claimant.lease, message.ref)
  index(level, user)
  return delivery(message, claimant.nonce, fields), message
end

-- An entry that somebody deleted from its lane is a dead letter without a body.
local function miss(level, user, id, at)
  local ending = '.' .. id:match('^%d+') .. '.' .. level .. '.' .. user
  for _, ref in ipairs(call('ZRANGE', start .. 'refs', 0, -1)) do
    if ref:sub(17) == ending then forget(message_of(ref)) end
  end
  redis.pcall('XACK', lane_of(level, user), GROUP, id)
  index(level, user)
  bury({submission = redis.sha1hex(start .. ending):sub(1, 24), body = '', job = '', user = user, priority = level,
    at = at}, '', 'its entry was deleted from ' .. lane_of(level, user) .. ' by another client', at)
end

-- Of the users who were served least the one whose oldest message is the oldest; nil where all are passed over.
local function next_user(level, turns)
  local best, best_served, from = nil, nil, 0
  while true do
    local users = call('ZRANGE', start .. 'level:' .. level, from, from + 99)
    for _, user in ipairs(users) do
      local seconds = turns.served[user] or 0
      if not turns.passed[user] and (not best or seconds < best_served) then best, best_served = user, seconds end
      if best and best_served <= turns.least then return best end
    end
    if #users < 100 then return best end
    from = from + 100
  end
end

local function next_turn(turns)
  local from = 0
  while true do
    local levels = call('ZRANGE', start .. 'levels', from, from + 9)
    for _, level in ipairs(levels) do
      local user = next_user(level, turns)
      if user then return level, user end
    end
    if #levels < 10 then return nil end
    from = from + 10
  end
end

local function take(turns, claimant, at)
  local missed = 0
  while missed < MISSED_MAX do
    local level, user = next_turn(turns)
    if not level then return nil end
    local first = pending(lane_of(level, user), '-', '+', 1, FREE)[1]
    if first then
      local taken, message = claim(level, user, first[1], claimant)
      if taken then return taken, message end
      miss(level, user, first[1], at)
      missed = missed + 1
    else
      index(level, user)
    end
  end
end

-- Seconds by user; null for one who is passed over.
local function turns_of(told)
  local turns = {served = {}, passed = {}, least = 0}
  for user, seconds in pairs(cjson.decode(told)) do
    if seconds == cjson.null then
      turns.passed[short_user(user)] = true
    else
      turns.served[short_user(user)] = seconds
      turns.least = math.min(turns.least, seconds)
    end
  end
  return turns
end

local function soonest(key)
  local first = call('ZRANGEBYSCORE', start .. key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and first[2] - now or 1e9
end


function operations.fetch(consumer, nonce, lease, process, at, told_served)
  local claimant = {consumer = consumer, nonce = nonce, lease = tonumber(lease)}
  take_in(at)
  free_what_is_due(process)
  local asked = call('GET', start .. 'asked:' .. nonce)
  if asked then
    local message = message_of(asked)
    local again = held(message, nonce) and claim(message.level, message.user, message.id, claimant)
    if again then return again end
  end
  local taken, message = take(turns_of(told_served), claimant, at)
  if taken then
    call('SET', start .. 'asked:' .. nonce, message.ref, 'PX', lease)
    return taken
  end
  local rung = call('XREVRANGE', start .. 'bell', '+', '-', 'COUNT', 1)[1]
  -- What could not be taken in now is no reason to look again at once.
  local added = call('EXISTS', inbox) == 1 and call('XLEN', inbox) > 0 and '$' or '0-0'
  return {string.format('%.0f', math.min(soonest('later'), soonest('claims'))), rung and rung[1] or '0-0', added}
end

function operations.give_back(nonce)
  local asked = call('GET', start .. 'asked:' .. nonce)
  if not asked then return 0 end
  local message = message_of(asked)
  local consumer = held(message, nonce)
  if not consumer then return 0 end
  free(message)
  call('ZREM', start .. 'claims', asked)
  leave(message, consumer)
  ring()
  return 1
end

function operations.renew(ref, nonce, consumer, lease)
  local message = message_of(ref)
  local holder = held(message, nonce)
  if not holder then return 0 end
  call('XCLAIM', message.lane, GROUP, consumer, 0, message.id, 'JUSTID')
  if holder ~= consumer then leave(message, holder) end
  call('ZADD', start .. 'claims', now + lease, ref)
  return 1
end
