-- Begin the next attempt. KEYS: chunks, meta. ARGV: lease in ms, TTL in s. Answers {state, attempt, next index}.
local state = redis.call('HGET', KEYS[2], 'state')
if not state then return {'missing', 0, 0} end
if state ~= 'open' then return {state, 0, 0} end
local now = redis.call('TIME')
local attempt = redis.call('HINCRBY', KEYS[2], 'attempt', 1)
redis.call('HSET', KEYS[2], 'lease', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return {'open', attempt, tonumber(redis.call('HGET', KEYS[2], 'next'))}
