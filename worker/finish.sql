-- name: result_size
-- the answer, and what /stream gave beside it
SELECT
    octet_length(r.body) + (
        SELECT coalesce(sum(s.bytes), 0) FROM generation_streams AS s WHERE s.generation_id = r.generation_id
    )
FROM generation_results AS r WHERE r.generation_id = $1;

-- name: result
-- RunPod's answer, and the price that was agreed
SELECT r.body, r.received_at, h.price
FROM generation_results AS r
INNER JOIN credit_holds AS h ON h.hold_id = $2
WHERE r.generation_id = $1;
