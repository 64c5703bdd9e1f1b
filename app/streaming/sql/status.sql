-- Tell a stream's state. $1 task.
SELECT state, attempt, next_index, last_reset,
       extract(epoch FROM lease_until - clock_timestamp())::float8 AS lease_left_s
FROM stream WHERE task_id = $1
