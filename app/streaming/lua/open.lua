-- Begin an attempt. KEYS: log, meta. ARGV: attempt, lease in ms, TTL in s. Answers {state, newest attempt, next index}:
-- the attempt has begun if the stream is open and no newer one is known. LLEN is exchanged where the log is no list.
local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancel', 'begun')
local length = redis.call('LLEN', KEYS[1])
if not meta[1] or meta[1] == 'open' and meta[4] and length == 0 then return {'missing', 0, 0} end
local newest = tonumber(meta[2])
if meta[1] ~= 'open' or newest > tonumber(ARGV[1]) then return {meta[1], newest, length} end
local now = redis.call('TIME')
redis.call('HSET', KEYS[2], 'attempt', ARGV[1],
  'lease', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
if not meta[3] then redis.call('HSET', KEYS[2], 'pen', ARGV[1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {'open', tonumber(ARGV[1]), length}
