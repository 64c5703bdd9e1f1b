-- Close a stream whose producer is lost. $1 task, $2 grace in s, $3 end state, $4 stamp, $5 code, $6 retryable, $7 whether
-- to announce it.
WITH step AS (
    UPDATE stream SET next_index = next_index + 1, state = $3
    WHERE task_id = $1 AND state = 'open' AND lease_until < clock_timestamp() - make_interval(secs => $2)
    RETURNING next_index - 1 AS chunk_index, attempt),
stored AS (
    INSERT INTO stream_chunk (task_id, chunk_index, attempt, chunk_type, content, deltas, ts_ns, code, retryable)
    SELECT $1, chunk_index, attempt, $3, '', 0, $4, $5, $6 FROM step)
SELECT true, CASE WHEN $7 THEN pg_notify('streamgauge_chunks', $1::text)::text END FROM step
