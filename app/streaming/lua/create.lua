-- Make a stream known, unless it is. KEYS: meta. ARGV: patience in ms before an unstarted stream counts as lost, TTL in s.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'ok' end
local now = redis.call('TIME')
local lease = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1]
redis.call('HSET', KEYS[1], 'state', 'open', 'attempt', 0, 'reset', 0, 'lease', lease)
redis.call('EXPIRE', KEYS[1], math.max(ARGV[2], math.ceil(ARGV[1] / 1000)))
return 'ok'
