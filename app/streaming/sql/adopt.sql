-- Move the pin here, from a backend that is not in rows itself ($7 names those that are). $1 task, $2 attempt, $3 next
-- index, $4 last reset, $5 lease in s, $6 state. No row means fenced: a newer attempt was claimed, or somebody ended the
-- stream, which takes an attempt as well.
UPDATE stream SET backend = 'polling', next_index = $3, last_reset = $4, state = $6,
    lease_until = clock_timestamp() + make_interval(secs => $5)
WHERE task_id = $1 AND attempt = $2 AND backend <> ALL ($7::text[]) RETURNING true
