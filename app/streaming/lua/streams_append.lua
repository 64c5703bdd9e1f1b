-- Append one record to a Redis stream. KEYS: log, meta. ARGV: attempt, TTL in s, index, record, and the type unless it is
-- content. Answers as append.lua does, by its rules. The log's length is the next index; an entry's id is its index + 1, since
-- 0-0 is no id. Whoever waits for the log is woken by the entry, so there is nothing to publish.
local cancelled = ''
if redis.call('HGET', KEYS[2], 'pen') ~= ARGV[1] then
  local meta = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'cancel')
  if not meta[1] then return 'missing' end
  cancelled = meta[3] and ' cancel' or ''
  if meta[2] ~= ARGV[1] then return 'fenced' .. cancelled end
  if meta[1] ~= 'open' then  -- an end at this index that is not ours was a reaper's
    local last = redis.call('XLEN', KEYS[1]) - 1
    local ours = meta[1] == (ARGV[5] or 'content')
    return ((last > tonumber(ARGV[3]) or last == tonumber(ARGV[3]) and ours) and 'duplicate' or 'closed') .. cancelled
  end
end

local length, index = redis.call('XLEN', KEYS[1]), tonumber(ARGV[3])
if length ~= index then
  if index < length then return 'duplicate' .. cancelled end
  local evicted = length == 0 and redis.call('HEXISTS', KEYS[2], 'begun') == 1
  return (evicted and 'missing' or 'gap') .. cancelled
end
redis.call('XADD', KEYS[1], index + 1 .. '-0', 'record', ARGV[4])
if index == 0 then
  redis.call('HSET', KEYS[2], 'begun', 1)  -- from now on an empty log is a lost one
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
if ARGV[5] then
  if ARGV[5] == 'reset' then
    redis.call('HSET', KEYS[2], 'reset', index)
  else
    redis.call('HSET', KEYS[2], 'state', ARGV[5])
    redis.call('HDEL', KEYS[2], 'pen')
  end
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 'ok' .. cancelled
