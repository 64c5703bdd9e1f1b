-- Begin an attempt. $1 task, $2 attempt, $3 lease in s. No row means refused.
UPDATE stream SET attempt = $2, lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE task_id = $1 AND attempt <= $2 AND state = 'open' RETURNING next_index
