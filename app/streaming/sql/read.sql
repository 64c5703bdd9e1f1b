-- Give the rows of a stream from an index on. $1 task, $2 index.
SELECT chunk_index, chunk_type, content, attempt, deltas, ts_ns, usage::text AS usage, finish_reason, code, retryable
FROM stream_chunk WHERE task_id = $1 AND chunk_index >= $2 ORDER BY chunk_index
