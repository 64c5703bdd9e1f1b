-- Append one record. KEYS: chunks, meta. ARGV: attempt, channel, TTL in s, index, record, and the type unless it is content.
-- Answers an outcome, with ' cancel' behind it if somebody asked to stop. The list's length is the next index. Who holds
-- the pen may write with no further question; its lease and both TTLs are its renewals' business, not each chunk's.
-- The publish is last and protected: were it to fail, the record is stored all the same, and viewers find it in the log.
local cancelled = ''
if redis.call('HGET', KEYS[2], 'pen') ~= ARGV[1] then
  local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancel')
  if not meta[1] then return 'missing' end
  cancelled = meta[3] and ' cancel' or ''
  if meta[2] ~= ARGV[1] then return 'fenced' .. cancelled end
  if meta[1] ~= 'open' then  -- an end at this index that is not ours was a reaper's
    local last = redis.call('LLEN', KEYS[1]) - 1
    local ours = meta[1] == (ARGV[6] or 'content')
    return ((last > tonumber(ARGV[4]) or last == tonumber(ARGV[4]) and ours) and 'duplicate' or 'closed') .. cancelled
  end
end

local length, index = redis.call('RPUSH', KEYS[1], ARGV[5]), tonumber(ARGV[4])
if length ~= index + 1 then
  redis.call('RPOP', KEYS[1])
  if index + 1 < length then return 'duplicate' .. cancelled end
  local evicted = length == 1 and redis.call('HEXISTS', KEYS[2], 'begun') == 1
  return (evicted and 'missing' or 'gap') .. cancelled
end
if index == 0 then
  redis.call('HSET', KEYS[2], 'begun', 1)  -- from now on an empty list is a lost one
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
if ARGV[6] then
  if ARGV[6] == 'reset' then
    redis.call('HSET', KEYS[2], 'reset', index)
  else
    redis.call('HSET', KEYS[2], 'state', ARGV[6])
    redis.call('HDEL', KEYS[2], 'pen')
  end
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
redis.pcall('PUBLISH', ARGV[2], ARGV[5])
return 'ok' .. cancelled
