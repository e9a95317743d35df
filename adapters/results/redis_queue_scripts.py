"""What the server does in one step with all that is not one job's, in Lua; above each script stand its arguments."""

from __future__ import annotations

from adapters.redis_client import Script
from adapters.results.redis_job_scripts import JOBS
from adapters.results.redis_keys import BEATS_MAX, PARTIAL_KEPT_S, START, STOPS_MAX

PIECE_BYTES = 1 << 20

# before, how many of each kind at most; [how many went, 1 where there may be more]
PRUNE = Script(
    START
    + JOBS
    + """
local before, most, gone = '(' .. ARGV[1], tonumber(ARGV[2]), 0
local jobs = call('ZRANGEBYSCORE', S .. 'ended', '-inf', before, 'LIMIT', 0, most)
for _, key in ipairs(jobs) do
  gone = gone + call('EXISTS', at('job', key))
  forget(key)
end
local uploads = call('ZRANGEBYSCORE', S .. 'uploads', '-inf', before, 'LIMIT', 0, most)
for _, digest in ipairs(uploads) do
  gone = gone + call('UNLINK', at('upload', digest))
  call('ZREM', S .. 'uploads', digest)
end
gone = gone + call('ZREMRANGEBYSCORE', S .. 'stops', '-inf', before)
for _, box in ipairs(call('ZRANGEBYSCORE', S .. 'beats:at', '-inf', before)) do
  gone = gone + call('HDEL', S .. 'beats', box)
  call('ZREM', S .. 'beats:at', box)
end
return {gone, (#jobs == most or #uploads == most) and 1 or 0}
"""
)

# id
STOP = Script(
    START
    + f"""
call('ZADD', S .. 'stops', now(), ARGV[1])
call('ZREMRANGEBYSCORE', S .. 'stops', '-inf', now() - KEPT)
call('ZREMRANGEBYRANK', S .. 'stops', 0, -{STOPS_MAX + 1})
call('EXPIRE', S .. 'stops', KEPT)
"""
)

# box, beat
BEAT = Script(
    START
    + f"""
call('HSET', S .. 'beats', ARGV[1], ARGV[2])
call('ZADD', S .. 'beats:at', now(), ARGV[1])
local function drop(boxes)
  for _, box in ipairs(boxes) do
    call('HDEL', S .. 'beats', box)
    call('ZREM', S .. 'beats:at', box)
  end
end
drop(call('ZRANGEBYSCORE', S .. 'beats:at', '-inf', now() - BEAT_KEPT))
drop(call('ZRANGE', S .. 'beats:at', 0, -{BEATS_MAX + 1}))
call('EXPIRE', S .. 'beats', BEAT_KEPT)
call('EXPIRE', S .. 'beats:at', BEAT_KEPT)
"""
)

# beats of those boxes that gave one within a day
BEATS = Script(
    START
    + """
local boxes = call('ZRANGEBYSCORE', S .. 'beats:at', now() - BEAT_KEPT, '+inf')
if #boxes == 0 then return {} end
return call('HMGET', S .. 'beats', unpack(boxes))
"""
)

# name, field, data: a piece of what is not whole yet
PIECE = Script(
    START
    + f"""
call('HSET', S .. ARGV[1], ARGV[2], ARGV[3])
call('EXPIRE', S .. ARGV[1], {PARTIAL_KEPT_S})
"""
)

# name, field; the piece, nothing where it is missing or larger than one is
TAKE = Script(
    START
    + f"""
if call('HSTRLEN', S .. ARGV[1], ARGV[2]) > {PIECE_BYTES} then return false end
return call('HGET', S .. ARGV[1], ARGV[2])
"""
)

# name of the partial one, key, attempt, pieces, digest, bytes, bytes kept of all logs and archives
ARCHIVE = Script(
    START
    + JOBS
    + """
local key, attempt = ARGV[2], ARGV[3]
local name = at('archive', key .. ':' .. attempt)
weigh(key, ARGV[6] - (call('HGET', name, 'bytes') or 0))
call('HSET', S .. ARGV[1], 'pieces', ARGV[4], 'digest', ARGV[5], 'bytes', ARGV[6])
call('RENAME', S .. ARGV[1], name)
call('SADD', at('archives', key), attempt)
keep(key)
make_room(tonumber(ARGV[7]))
"""
)

# name of the partial one, or empty where one should stand; digest, pieces; 1, 0 where there is none
UPLOAD = Script(
    START
    + """
local name = at('upload', ARGV[2])
if ARGV[1] ~= '' then
  call('HSET', S .. ARGV[1], 'pieces', ARGV[3], 'digest', ARGV[2])
  call('RENAME', S .. ARGV[1], name)
end
if call('EXPIRE', name, KEPT) == 0 then return 0 end
call('ZADD', S .. 'uploads', now(), ARGV[2])
call('ZREMRANGEBYSCORE', S .. 'uploads', '-inf', now() - KEPT)
call('EXPIRE', S .. 'uploads', KEPT)
return 1
"""
)
