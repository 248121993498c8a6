-- name: result
SELECT remote_status, body, received_at FROM generation_results WHERE generation_id = $1;
