"""The statements of `records`, one round trip each."""

POST = """
WITH flag AS (
    SELECT coalesce(max(generation), 0) AS newest FROM flag_document),
talk AS (
    SELECT id FROM conversation, flag
    WHERE id = $1 AND ($11::text IS NULL OR owner = $11) AND newest = coalesce($10::bigint, newest)),
question AS (
    INSERT INTO message (id, conversation_id, role, content, status, created_at)
    SELECT $2, id, 'user', $3, 'complete', clock_timestamp() FROM talk RETURNING seq),
answer AS (
    INSERT INTO message (id, conversation_id, role, content, status, task_id, model, max_tokens, backend, created_at)
    SELECT $4::uuid, talk.id, 'assistant', '', 'pending', $5::uuid, $6, $7, $8, clock_timestamp()
    FROM talk, question  -- after the question, so that it is numbered after it
    RETURNING id, task_id),
pinned AS (
    INSERT INTO stream (task_id, message_id, backend, state, attempt, next_index, last_reset, cancel_requested,
                        lease_until, created_at)
    SELECT task_id, id, $8, 'open', 0, 0, 0, false, now() + make_interval(secs => $9), now() FROM answer
    RETURNING true)
SELECT EXISTS (SELECT FROM pinned) AS made, nullif(newest, coalesce($10, newest)) AS newer,
       (SELECT document::text FROM flag_document WHERE generation = newest AND newest <> $10) AS document
FROM flag
"""
CLAIM = """
WITH claimed AS (  -- a stream in rows has its state here; of any other only its store knows whether it is over
    UPDATE stream SET attempt = attempt + 1 WHERE task_id = $1 AND (state = 'open' OR backend <> ALL ($2::text[]))
    RETURNING message_id, backend, state, attempt)
SELECT turn.id, turn.conversation_id, turn.role, turn.content, turn.status, turn.model, turn.max_tokens,
       turn.created_at, turn.finish_reason, turn.usage::text AS usage, turn.code, turn.retryable,
       claimed.backend AS pin, claimed.state, claimed.attempt
FROM claimed
JOIN message AS answer ON answer.id = claimed.message_id
JOIN message AS turn ON turn.conversation_id = answer.conversation_id AND turn.seq <= answer.seq
ORDER BY turn.seq
"""
PIN = """
SELECT stream.backend, stream.state, message.id, usage::text, status, content, finish_reason, code, retryable,
       message.created_at
FROM stream JOIN message ON message.id = stream.message_id
WHERE stream.task_id = $1 AND ($2::text IS NULL OR EXISTS (
    SELECT FROM conversation WHERE conversation.id = message.conversation_id AND owner = $2))
"""
COMMIT = """
WITH answered AS (
    UPDATE message SET status = $2, content = $3, finish_reason = $4, usage = $5::jsonb, backend = $6,
                       code = $7, retryable = $8, timings = $11::jsonb
    FROM stream
    WHERE message.task_id = $1 AND stream.task_id = $1 AND stream.attempt = $10
      AND (message.status = 'pending' OR (message.status = $2 AND message.content = $3))
    RETURNING message.task_id),
ended AS (  -- of a stream in rows the terminal does it
    UPDATE stream SET state = $9 FROM answered
    WHERE stream.task_id = answered.task_id AND stream.backend <> ALL ($12::text[]))
SELECT true FROM answered
"""
CLOSE_LOST = """
WITH closed AS (
    UPDATE stream SET state = 'failed', attempt = attempt + 1
    WHERE task_id = $1 AND state = 'open' AND backend <> ALL ($2::text[]) AND (attempt > 0 OR lease_until < now())
    RETURNING task_id)
UPDATE message SET status = 'failed', code = 'producer_lost', retryable = true FROM closed
WHERE message.task_id = closed.task_id AND message.status = 'pending' RETURNING true
"""
PENDING = """
SELECT stream.task_id, stream.backend, stream.attempt, stream.created_at,
       extract(epoch FROM now() - stream.created_at)::float8 AS age_s
FROM message JOIN stream ON stream.message_id = message.id
WHERE message.status = 'pending' AND stream.created_at < now() - make_interval(secs => $1)
  AND ($2::timestamptz IS NULL OR (stream.created_at, stream.task_id) > ($2, $3::uuid))
ORDER BY stream.created_at, stream.task_id LIMIT 500
"""
MEND = """
WITH mended AS (
    UPDATE message SET status = $2, content = $3, finish_reason = $4, usage = $5::jsonb, backend = $6, code = $7,
                       retryable = $8
    WHERE task_id = $1 AND status = 'pending' RETURNING task_id)
UPDATE stream SET state = $9, attempt = attempt + 1 FROM mended WHERE stream.task_id = mended.task_id RETURNING true
"""
EXPIRE = """
DELETE FROM stream_chunk USING stream
WHERE stream_chunk.task_id = stream.task_id
  AND stream.created_at < now() - make_interval(secs => $1)
  AND stream.lease_until < now() - make_interval(secs => $1)
"""
