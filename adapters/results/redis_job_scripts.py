"""What the server does in one step with one job, in Lua; above each script stand its arguments and its answer."""

from __future__ import annotations

from adapters.redis_client import Script
from adapters.results.redis_keys import ENTRY_BYTES, EVENTS_MAX, PARTIAL_KEPT_S, START

SWEPT_MAX = 10
"""How many jobs that expired are taken out of the indexes whenever a new one comes."""
GIVEN_UP_MAX = 10
"""How many ended jobs lose their logs and archives in one call, where all of them together are too large."""
TRIMMED_MAX = 64
READ_BYTES = 1 << 20
"""A reader gets so much at once: a line of 1 Mbit/s carries it within the time that a call has."""
READ_ENTRIES, READ_ROUNDS = 16, 64
CHUNK_MAX_BYTES = 8 << 20
"""More than any box writes as one, of however short records."""

JOBS = f"""
local PARTS = {{'job', 'events', 'log', 'bell', 'receipts', 'archives'}}
local INDEXES = {{'jobs', 'active', 'ended', 'expires', 'heavy'}}

local function ring(name, kept)
  call('XADD', at('bell', name), 'MAXLEN', 1, '*', 'r', '')
  call('EXPIRE', at('bell', name), kept)
end

local function weigh(key, change)
  call('HINCRBY', S .. 'sizes', key, string.format('%.0f', change + 0))
  call('HINCRBY', S .. 'sizes', '*', string.format('%.0f', change + 0))
end

local function archives_of(key)
  local names = {{}}
  for place, attempt in ipairs(call('SMEMBERS', at('archives', key))) do
    names[place] = at('archive', key .. ':' .. attempt)
  end
  return names
end

local function unburden(key)
  for _, archive in ipairs(archives_of(key)) do call('UNLINK', archive) end
  call('UNLINK', at('archives', key), at('log', key))
  weigh(key, -(call('HGET', S .. 'sizes', key) or 0))
  call('HDEL', S .. 'sizes', key)
  call('ZREM', S .. 'heavy', key)
end

local function forget(key)
  local id = call('HGET', at('job', key), 'id')
  if id and call('GET', at('id', id)) == key then call('UNLINK', at('id', id)) end
  unburden(key)
  for _, part in ipairs(PARTS) do call('UNLINK', at(part, key)) end
  for _, index in ipairs(INDEXES) do call('ZREM', S .. index, key) end
  ring(key, {PARTIAL_KEPT_S})
end

local function keep(key)
  local fields = call('HMGET', at('job', key), 'ended', 'id')
  local kept = fields[1] == '1' and ENDED_KEPT or KEPT
  for _, part in ipairs(PARTS) do call('EXPIRE', at(part, key), kept) end
  for _, archive in ipairs(archives_of(key)) do call('EXPIRE', archive, kept) end
  if fields[2] then call('EXPIRE', at('id', fields[2]), kept) end
  if fields[1] == '1' and call('HEXISTS', S .. 'sizes', key) == 1 then
    call('ZADD', S .. 'heavy', call('ZSCORE', S .. 'ended', key), key)
  end
  call('ZADD', S .. 'expires', now() + kept, key)
  for _, index in ipairs(INDEXES) do call('EXPIRE', S .. index, KEPT) end
  call('EXPIRE', S .. 'sizes', KEPT)
end

local function give_up_log(key)
  local job = at('job', key)
  local fields = call('HGETALL', job)
  for place = 1, #fields, 2 do
    local part = string.match(fields[place], '^part:(.*)$')
    if part then
      local wanted, ended_ns, bytes = string.match(fields[place + 1], '^(%d+) %S+ %S+ %d+ (%d+) (%d+)$')
      call('HSET', job, 'lost:' .. part, string.format('%.0f %s %s', wanted - 1, ended_ns, bytes))
    end
  end
  call('HSET', job, 'bytes', 0)
  unburden(key)
end

local function make_room(most)
  for _ = 1, {GIVEN_UP_MAX} do
    local oldest = call('ZRANGE', S .. 'heavy', 0, 0)[1]
    if not oldest or tonumber(call('HGET', S .. 'sizes', '*') or 0) <= most then return end
    if call('EXISTS', at('job', oldest)) == 1 then give_up_log(oldest) else unburden(oldest) end
  end
end

local function enter(key, id)
  if call('EXISTS', at('job', key)) == 1 then return end
  for _, old in ipairs(call('ZRANGEBYSCORE', S .. 'expires', '-inf', now(), 'LIMIT', 0, {SWEPT_MAX})) do
    forget(old)
  end
  call('HSET', at('job', key), 'id', id, 'bytes', 0, 'events', 0)
  call('SET', at('id', id), key)
  call('ZADD', S .. 'jobs', now(), key)
  call('ZADD', S .. 'active', now(), key)
  ring(id, KEPT)
end

local function finish(key, ended_at)
  call('HSET', at('job', key), 'ended', 1)
  call('ZREM', S .. 'active', key)
  call('ZADD', S .. 'ended', 'GT', ended_at, key)
end
"""

_FIND = """
local function find(asked, id)
  if asked ~= '' and call('EXISTS', at('job', asked)) == 1 then return asked end
  local key = call('GET', at('id', id))
  if key and call('EXISTS', at('job', key)) == 1 then return key end
  return nil
end
"""

# key, id, box, bytes kept of one log, and of all logs and archives, how many chunks | each: attempt, last sequence,
# first and last time, bytes, data | each event: when it ended the job, else empty; the event
APPEND = Script(
    START
    + JOBS
    + f"""
local key, box, most = ARGV[1], ARGV[3], tonumber(ARGV[4])
local job, log, events = at('job', key), at('log', key), at('events', key)

local function add(attempt, last, began_ns, ended_ns, size, data)
  local part = attempt .. ':' .. box
  local state = call('HGET', job, 'part:' .. part)
  local wanted, first, first_ns, bytes = 0, nil, began_ns, 0
  if state then wanted, first, first_ns, bytes = string.match(state, '^(%d+) (%S+) %S+ (%d+) %d+ (%d+)$') end
  if tonumber(last) < tonumber(wanted) then return end
  local entry = call('XADD', log, '*', 'p', part, 'l', last, 't', ended_ns, 'n', size, 'd', data)
  state = string.format('%.0f %s %s %s %s %.0f', last + 1, first or entry, entry, first_ns, ended_ns, bytes + size)
  call('HSET', job, 'part:' .. part, state)
  call('HINCRBY', job, 'bytes', #data + {ENTRY_BYTES})
  weigh(key, #data + {ENTRY_BYTES})
end

local function lose(fields)
  local field = 'lost:' .. fields[2]
  local lost = call('HGET', job, field)
  local bytes = (lost and string.match(lost, '%d+$') or 0) + fields[8]
  call('HSET', job, field, string.format('%s %s %.0f', fields[4], fields[6], bytes))
end

local function trim(bytes)
  local dropped, before = {{}}, bytes
  for place, entry in ipairs(call('XRANGE', log, '-', '+', 'COUNT', {TRIMMED_MAX})) do
    if bytes <= most or place == call('XLEN', log) then break end
    lose(entry[2])
    bytes = bytes - #entry[2][10] - {ENTRY_BYTES}
    dropped[place] = entry[1]
  end
  if #dropped == 0 then return most end
  call('XDEL', log, unpack(dropped))
  weigh(key, bytes - before)
  return call('HINCRBY', job, 'bytes', bytes - before)
end

local function tell(final, event)
  local item = box .. '\\0' .. event
  if not call('LPOS', events, item) then
    call('RPUSH', events, item)
    call('LTRIM', events, -{EVENTS_MAX}, -1)
    call('HINCRBY', job, 'events', 1)
  end
  if final ~= '' then finish(key, final) end
end

enter(key, ARGV[2])
local place = 7
for _ = 1, tonumber(ARGV[6]) do
  add(unpack(ARGV, place, place + 5))
  place = place + 6
end
local bytes = tonumber(call('HGET', job, 'bytes'))
while bytes > most do bytes = trim(bytes) end
for event = place, #ARGV, 2 do tell(ARGV[event], ARGV[event + 1]) end
ring(key, KEPT)
keep(key)
make_room(tonumber(ARGV[5]))
"""
)

# key, id, attempt, box, receipt, its row, when it ended the job, else empty; 0 where one stands
RECEIPT = Script(
    START
    + JOBS
    + """
local key, attempt, job = ARGV[1], ARGV[3], at('job', ARGV[1])
if call('HEXISTS', at('receipts', key), attempt) == 1 then return 0 end
enter(key, ARGV[2])
call('HSET', at('receipts', key), attempt, ARGV[5])
call('HSET', job, 'winner:' .. attempt, ARGV[4])
if tonumber(attempt) >= tonumber(call('HGET', job, 'newest') or 0) then
  call('HSET', job, 'newest', attempt, 'row', ARGV[6])
end
if ARGV[7] ~= '' then finish(key, ARGV[7]) end
ring(key, KEPT)
keep(key)
return 1
"""
)

# the key where it may be one, the id; the newest receipt
GET = Script(
    START
    + _FIND
    + """
local key = find(ARGV[1], ARGV[2])
local newest = key and call('HGET', at('job', key), 'newest')
return newest and call('HGET', at('receipts', key), newest)
"""
)

# the key where it may be one, the id, the key once it is known, how many events are;
# [key or nothing, last ring, events in all, new events, fields of the job]
LOOK = Script(
    START
    + _FIND
    + """
local key = ARGV[3]
if key == '' then key = find(ARGV[1], ARGV[2]) or '' end
local name = key ~= '' and key or ARGV[2]
local rung = call('XREVRANGE', at('bell', name), '+', '-', 'COUNT', 1)[1]
rung = rung and rung[1] or '0-0'
if key == '' or call('EXISTS', at('job', key)) == 0 then return {'', rung, 0, {}, {}} end
local total = tonumber(call('HGET', at('job', key), 'events'))
local from = ARGV[4] - (total - call('LLEN', at('events', key)))
local events = call('LRANGE', at('events', key), math.max(0, from), -1)
return {key, rung, total, events, call('HGETALL', at('job', key))}
"""
)

# key, attempt and box, entry after which to read; [what is lost, last entry read, data of each], about 1 MiB;
# of what is larger than any chunk comes nothing
READ = Script(
    START
    + f"""
local job, log, part = at('job', ARGV[1]), at('log', ARGV[1]), ARGV[2]
local state = call('HGET', job, 'part:' .. part)
if not state then return {{false, ARGV[3]}} end
local first, last = string.match(state, '^%d+ (%S+) (%S+)')
local read, size, cursor = {{call('HGET', job, 'lost:' .. part), last}}, 0, first
if ARGV[3] ~= '' then cursor = '(' .. ARGV[3] end
for _ = 1, {READ_ROUNDS} do
  local entries = call('XRANGE', log, cursor, last, 'COUNT', {READ_ENTRIES})
  for _, entry in ipairs(entries) do
    read[2], cursor = entry[1], '(' .. entry[1]
    if entry[2][2] == part then
      local data = entry[2][10]
      if #data > {CHUNK_MAX_BYTES} then data = '' end
      table.insert(read, data)
      size = size + #data
    end
    if size >= {READ_BYTES} then return read end
  end
  if #entries < {READ_ENTRIES} then return read end
end
return read
"""
)

# job keys; of each: the row of its newest receipt or nothing, and its events; false where it expired
ROWS = Script(
    START
    + """
local rows = {}
for place, key in ipairs(ARGV) do
  rows[place] = false
  if call('EXISTS', at('job', key)) == 1 then
    rows[place] = {call('HGET', at('job', key), 'row'), call('LRANGE', at('events', key), 0, -1)}
  end
end
return rows
"""
)
