-- Tell a stream's state. KEYS: meta. Answers {state, attempt, next, reset, lease left in ms}, or {} when unknown.
local meta = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'next', 'reset', 'lease')
if not meta[1] then return {} end
local now = redis.call('TIME')
return {meta[1], tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4]),
  tonumber(meta[5]) - (now[1] * 1000 + math.floor(now[2] / 1000))}
