-- Append one record. KEYS: chunks, meta. ARGV: attempt, index, type, record, lease in ms, TTL in s, channel.
-- Answers {outcome, 1 if somebody asked to cancel}. An end at this index that is not ours was a reaper's. The publish is last and protected: were it to fail, the
-- record is stored and indexed all the same, and viewers find it in the log.
local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'next', 'cancel')
if not meta[1] then return {'missing', 0} end
local cancelled = meta[4] and 1 or 0
if tonumber(meta[2]) ~= tonumber(ARGV[1]) then return {'fenced', cancelled} end
local index, expected = tonumber(ARGV[2]), tonumber(meta[3])
if index == expected - 1 and meta[1] ~= 'open' and meta[1] ~= ARGV[3] then return {'closed', cancelled} end
if index < expected then return {'duplicate', cancelled} end
if meta[1] ~= 'open' then return {'closed', cancelled} end
if index > expected then return {'gap', cancelled} end

local now = redis.call('TIME')
if redis.call('RPUSH', KEYS[1], ARGV[4]) ~= index + 1 then  -- the log was evicted or deleted: this one is no log
  redis.call('DEL', KEYS[1])
  return {'missing', cancelled}
end
redis.call('HSET', KEYS[2], 'next', index + 1,
  'lease', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[5])
if ARGV[3] == 'reset' then
  redis.call('HSET', KEYS[2], 'reset', index)
elseif ARGV[3] ~= 'content' then
  redis.call('HSET', KEYS[2], 'state', ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[6])
redis.pcall('PUBLISH', ARGV[7], ARGV[4])
return {'ok', cancelled}
