-- name: latest
-- the warnings that a person was given last, newest first
SELECT warning_id, code, available, at FROM credit_warnings
WHERE user_id = $1 ORDER BY warning_id DESC LIMIT $2;
