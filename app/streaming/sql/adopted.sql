-- Tell whether this very move was made before. $1 task, $2 attempt, $3 next index.
SELECT true FROM stream WHERE task_id = $1 AND backend = 'polling' AND attempt = $2 AND next_index = $3
