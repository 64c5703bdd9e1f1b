-- End the read that a process waits for. KEYS: its wake key. ARGV: TTL in s.
redis.call('XADD', KEYS[1], 'MAXLEN', 1, '*', 'wake', 1)
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 'ok'
