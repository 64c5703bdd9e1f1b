-- Renew the producer's lease. KEYS: chunks, meta. ARGV: attempt, lease in ms, TTL in s. Answers as an append does.
local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancel')
if not meta[1] then return 'missing' end
local cancelled = meta[3] and ' cancel' or ''
if meta[2] ~= ARGV[1] then return 'fenced' .. cancelled end
if meta[1] ~= 'open' then return 'closed' .. cancelled end
local now = redis.call('TIME')
redis.call('HSET', KEYS[2], 'lease', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 'ok' .. cancelled
