-- Tell a stream's state. KEYS: log, meta. Answers {state, attempt, next, reset, lease left in ms}, or {} when unknown
-- or when its log is lost. LLEN is exchanged where the log is no list.
local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'reset', 'lease', 'begun')
local length = redis.call('LLEN', KEYS[1])
if not meta[1] or meta[5] and length == 0 then return {} end
local now = redis.call('TIME')
return {meta[1], tonumber(meta[2]), length, tonumber(meta[3]),
  tonumber(meta[4]) - (now[1] * 1000 + math.floor(now[2] / 1000))}
