-- name: result_size
SELECT octet_length(body) FROM generation_results WHERE generation_id = $1;

-- name: result
-- RunPod's answer, and the price that was agreed
SELECT r.body, r.received_at, h.price
FROM generation_results AS r
INNER JOIN credit_holds AS h ON h.hold_id = $2
WHERE r.generation_id = $1;
