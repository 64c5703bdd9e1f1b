-- Append one content chunk each to many streams, wherever it is the next of the newest attempt: what is refused gives no
-- row, and hinders no other. $1 tasks, $2 attempts, $3 indexes, $4 texts, $5 deltas, $6 stamps, $7 what to announce, if
-- anything, $8 lease in s.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::int[], $6::bigint[], $7::text[])
        AS given (task_id, attempt, chunk_index, content, deltas, ts_ns, payload)),
step AS (
    UPDATE stream SET next_index = chunk_index + 1, lease_until = clock_timestamp() + make_interval(secs => $8)
    FROM given
    WHERE stream.task_id = given.task_id AND stream.attempt = given.attempt AND next_index = chunk_index
      AND state = 'open'
    RETURNING given.*, cancel_requested),
stored AS (
    INSERT INTO stream_chunk (task_id, chunk_index, attempt, chunk_type, content, deltas, ts_ns)
    SELECT task_id, chunk_index, attempt, 'content', content, deltas, ts_ns FROM step)
SELECT task_id, cancel_requested,
       CASE WHEN payload IS NOT NULL THEN pg_notify('streamgauge_chunks', payload)::text END
FROM step
