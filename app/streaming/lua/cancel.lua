-- Ask the producer to stop. KEYS: meta. ARGV: control channel. The message has a record's shape. Answers the stream's state, or 'missing'.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'open' then
  redis.call('HSET', KEYS[1], 'cancel', 1)
  redis.call('HDEL', KEYS[1], 'pen')  -- so that its next append asks, and is told
  redis.pcall('PUBLISH', ARGV[1], '{"chunk_index":-1,"chunk_type":"cancelled"}')
end
return state
