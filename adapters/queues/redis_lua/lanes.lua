-- What can be done with one queue; each call is one step that happens as a whole or not at all.
-- KEYS[1] is what the queue's keys begin with, ARGV[1] the operation, the rest its arguments.
--
--   <start less ":">       stream   what foreign producers add: moved to its lane at the next fetch
--   lane:<level>:<user>    stream   messages of one priority and one user; every one stands in the pending list of its
--                                   group, and its consumer there says how: "free" waits, "later" is delayed, else
--                                   <nonce>.<lease in ms>.<process>.<box> has claimed it, since its idle time
--   levels                 zset     levels with a waiting message, the highest first
--   level:<level>          zset     users with a waiting message, by the number of their oldest one
--   claims, later          zset     refs by when, in ms, the claim lapses or the message is due: where to look first
--   refs                   zset     all messages: <job's mark>.<number>.<level>.<user>
--   notes                  hash     number to note
--   settled                zset     <nonce><verdict> of what was settled, by time
--   asked:<nonce>          string   what a fetch claimed whose answer may have been lost
--   bell                   stream   one entry, replaced when something arrives
--   dead                   stream   dead letters; dead:at, dead:ids find them by time and by submission

local start, inbox = KEYS[1], KEYS[1]:sub(1, -2)
local GROUP, FREE, LATER = 'boxes', 'free', 'later'
local BODY_MAX, NAME_MAX, USER_MAX, LEVEL_MAX, MANY = 1048577, 4096, 100, 999999999, 1000
local MOVED_MAX, MOVED_MAX_BYTES, MISSED_MAX = 100, 4194304, 20
local SETTLED_MAX, SETTLED_MS = 100000, 604800000
local call = redis.call

local operations = {}

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function mark_of(text)
  return redis.sha1hex(text):sub(1, 16)
end

local function lane_of(level, user)
  return start .. 'lane:' .. level .. ':' .. user
end

local function message_of(ref)
  local number, level, user = ref:match('^%x+%.(%d+)%.(-?%d+)%.(.*)$')
  return {ref = ref, number = number, id = number .. '-1', level = level, user = user, lane = lane_of(level, user)}
end

-- Part of keys and tokens, so short and printable.
local function short_user(user)
  if #user <= USER_MAX and not user:find('[^ -~]') then return user end
  return 'sha1:' .. redis.sha1hex(user)
end

local function level_of(priority)
  local number = tonumber(priority) or 0
  if number ~= number then number = 0 end
  return string.format('%.0f', math.max(-LEVEL_MAX, math.min(LEVEL_MAX, math.floor(number))))
end

local function fields_of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return fields
end

-- Pending entries; none where the lane is gone.
local function pending(lane, ...)
  local found = redis.pcall('XPENDING', lane, GROUP, ...)
  if not found.err then return found end
  if found.err:find('NOGROUP', 1, true) then return {} end
  error(found.err, 0)
end

local function ring()
  call('XADD', start .. 'bell', 'MAXLEN', 1, '*', 'rung', 1)
end

-- Waiting

local function index(level, user)
  local first = pending(lane_of(level, user), '-', '+', 1, FREE)[1]
  local users = start .. 'level:' .. level
  if first then
    call('ZADD', users, first[1]:match('^%d+'), user)
    call('ZADD', start .. 'levels', -level, level)
  elseif call('ZREM', users, user) == 1 and call('EXISTS', users) == 0 then
    call('ZREM', start .. 'levels', level)
  end
end

local function add(fields)
  local number = string.format('%.0f', call('INCR', start .. 'number'))
  local level, user = level_of(fields.priority), short_user(fields.user)
  local lane, id = lane_of(level, user), number .. '-1'
  local is_new = call('EXISTS', lane) == 0
  local key = fields.job ~= '' and fields.job or fields.submission
  call('XADD', lane, id, 'body', fields.body, 'submission', fields.submission, 'job', fields.job,
    'user', fields.user, 'at', fields.at)
  if is_new then call('XGROUP', 'CREATE', lane, GROUP, '0') end
  call('XCLAIM', lane, GROUP, FREE, 0, id, 'FORCE', 'JUSTID', 'LASTID', id)
  call('ZADD', start .. 'refs', 0, mark_of(key) .. '.' .. number .. '.' .. level .. '.' .. user)
  index(level, user)
end

local function free(message)
  call('XCLAIM', message.lane, GROUP, FREE, 0, message.id, 'JUSTID')
  index(message.level, message.user)
end

-- Takes a message out of its lane.
local function forget(message)
  call('XACK', message.lane, GROUP, message.id)
  call('XDEL', message.lane, message.id)
  call('ZREM', start .. 'refs', message.ref)
  call('ZREM', start .. 'claims', message.ref)
  call('HDEL', start .. 'notes', message.number)
  -- What others deleted from it is still pending, and told later.
  if call('XLEN', message.lane) == 0 and (redis.pcall('XPENDING', message.lane, GROUP)[1] or 0) == 0 then
    call('DEL', message.lane)
  end
end

local function leave(message, consumer)
  if call('EXISTS', message.lane) == 1 then call('XGROUP', 'DELCONSUMER', message.lane, GROUP, consumer) end
end
