-- Append one chunk if it is the next of the newest attempt. $1 task, $2 attempt, $3 index, $4 lease in s, $5 state
-- afterwards, $6 whether it is a reset, $7 what to announce, if anything, $8.. the chunk. No row means refused.
WITH step AS (
    UPDATE stream SET next_index = $3 + 1, lease_until = clock_timestamp() + make_interval(secs => $4), state = $5,
        last_reset = CASE WHEN $6 THEN $3 ELSE last_reset END
    WHERE task_id = $1 AND attempt = $2 AND next_index = $3 AND state = 'open'
    RETURNING cancel_requested),
stored AS (
    INSERT INTO stream_chunk (task_id, chunk_index, attempt, chunk_type, content, deltas, ts_ns, usage,
                              finish_reason, code, retryable)
    SELECT $1, $3, $2, $8, $9, $10, $11, $12::jsonb, $13, $14, $15 FROM step)
SELECT cancel_requested, CASE WHEN $7::text IS NOT NULL THEN pg_notify('streamgauge_chunks', $7)::text END FROM step
