-- Store one chunk of a log that is being adopted.
INSERT INTO stream_chunk (task_id, chunk_index, attempt, chunk_type, content, deltas, ts_ns, usage,
                          finish_reason, code, retryable)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11)
