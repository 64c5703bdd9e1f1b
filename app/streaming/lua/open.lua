-- Begin the next attempt. KEYS: chunks, meta. ARGV: lease in ms, TTL in s. Answers {state, attempt, next index}.
local meta = redis.call('HMGET', KEYS[2], 'state', 'cancel', 'begun')
local length = redis.call('LLEN', KEYS[1])
if not meta[1] or meta[1] == 'open' and meta[3] and length == 0 then return {'missing', 0, 0} end
if meta[1] ~= 'open' then return {meta[1], 0, 0} end
local now = redis.call('TIME')
local attempt = redis.call('HINCRBY', KEYS[2], 'attempt', 1)
redis.call('HSET', KEYS[2], 'lease', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1])
if not meta[2] then redis.call('HSET', KEYS[2], 'pen', attempt) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return {'open', attempt, length}
