-- Forget a stream and wake its viewers, so that they see at once that it is not here. KEYS: chunks, meta. ARGV: channel.
-- The message has a record's shape but comes before every index: no viewer is shown it.
redis.call('DEL', KEYS[1], KEYS[2])
redis.pcall('PUBLISH', ARGV[1], '{"chunk_index":-1,"chunk_type":"content"}')
return 'ok'
