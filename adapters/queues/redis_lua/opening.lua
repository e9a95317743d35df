-- Opening a queue, and the call itself.

-- Every command once, on a key of its own: what may not be run is known before a message depends on it.
local function rehearse()
  local key = start .. 'rehearsal'
  local steps = {
    {'XADD', key, 'MAXLEN', 1, '1-1', 'a', ''}, {'XGROUP', 'CREATE', key, GROUP, '0'},
    {'XCLAIM', key, GROUP, FREE, 0, '1-1', 'FORCE', 'JUSTID'}, {'XPENDING', key, GROUP, '-', '+', 1},
    {'XGROUP', 'DELCONSUMER', key, GROUP, FREE}, {'XACK', key, GROUP, '1-1'}, {'XRANGE', key, '-', '+', 'COUNT', 1},
    {'XREVRANGE', key, '+', '-', 'COUNT', 1}, {'XDEL', key, '1-1'}, {'XLEN', key}, {'RENAME', key, key .. ':2'},
    {'TYPE', key}, {'EXISTS', key}, {'DEL', key .. ':2'}, {'ZADD', key, 0, 'a'}, {'ZSCORE', key, 'a'}, {'ZCARD', key},
    {'ZCOUNT', key, 0, 1}, {'ZRANGE', key, 0, 0}, {'ZRANGEBYSCORE', key, 0, 1}, {'ZRANGEBYLEX', key, '-', '+'},
    {'ZREMRANGEBYRANK', key, 1, 1}, {'ZREMRANGEBYSCORE', key, 1, 1}, {'ZREM', key, 'a'}, {'HSET', key, 'a', ''},
    {'HGET', key, 'a'}, {'HEXISTS', key, 'a'}, {'HDEL', key, 'a'}, {'SET', key, 0, 'PX', 1000}, {'GET', key},
    {'INCR', key}, {'DEL', key},
  }
  for _, step in ipairs(steps) do
    local answer = redis.pcall(unpack(step))
    local text = type(answer) == 'table' and answer.err or ''
    if text:find('NOPERM', 1, true) or text:find('executing the script', 1, true) then
      return redis.error_reply('NOPERM this user may not run ' .. step[1] .. ' on ' .. start .. '*')
    end
  end
end

function operations.open(identity)
  local problem = rehearse()
  if problem then return problem end
  local kept = call('GET', start .. 'identity')
  if kept then return kept end
  call('SET', start .. 'identity', identity)
  return identity
end

local TYPES = {levels = 'zset', claims = 'zset', later = 'zset', refs = 'zset', settled = 'zset', ['dead:at'] = 'zset',
  notes = 'hash', ['dead:ids'] = 'hash', dead = 'stream', bell = 'stream', number = 'string', identity = 'string'}

-- The server does not say which key it is.
local function explained(text)
  if text:find('executing the script', 1, true) then return 'NOPERM ' .. text end
  if not text:find('WRONGTYPE', 1, true) then return text end
  for part, expected in pairs(TYPES) do
    local kind = call('TYPE', start .. part).ok
    if kind ~= 'none' and kind ~= expected then
      return 'WRONGTYPE key ' .. start .. part .. ' is a ' .. kind .. ', not a ' .. expected .. ': rename it'
    end
  end
  return text
end

local done, result = pcall(operations[ARGV[1]], unpack(ARGV, 2))
if done then return result end
return redis.error_reply(explained(type(result) == 'table' and result.err or tostring(result)))
