-- Begin the next attempt. $1 task, $2 lease in s.
UPDATE stream SET attempt = attempt + 1, lease_until = clock_timestamp() + make_interval(secs => $2)
WHERE task_id = $1 AND state = 'open' RETURNING attempt, next_index
