-- Ask the producer to stop. KEYS: meta, stops. ARGV: task id, how many stops to keep, their TTL in s. Answers the stream's
-- state, or 'missing'. The message is protected: were it to fail, the producer hears with its next append or renewal.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'open' then
  redis.call('HSET', KEYS[1], 'cancel', 1)
  redis.call('HDEL', KEYS[1], 'pen')  -- so that its next append asks, and is told
  redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'task_id', ARGV[1])
  redis.pcall('EXPIRE', KEYS[2], ARGV[3])
end
return state
