-- Close a stream whose producer is lost. KEYS: log, meta. ARGV: grace in ms, attempt and index as last seen, end state,
-- record, TTL in s. Answers 1 if this call closed it, 0 if the stream lives or moved on.
local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'lease')
if meta[1] ~= 'open' or meta[2] ~= ARGV[2] or redis.call('XLEN', KEYS[1]) ~= tonumber(ARGV[3]) then return 0 end
local now = redis.call('TIME')
if now[1] * 1000 + math.floor(now[2] / 1000) < tonumber(meta[3]) + ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], ARGV[3] + 1 .. '-0', 'record', ARGV[5])
redis.call('HSET', KEYS[2], 'begun', 1, 'state', ARGV[4])
redis.call('HDEL', KEYS[2], 'pen')
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return 1
