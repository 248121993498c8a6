-- name: dead_letters
-- newest first, after the place that the cursor names; of RunPod's answer no more than $8 bytes
SELECT
    g.id, g.user_id, g.type, g.endpoint, g.error_code AS code, g.error_detail AS reason, g.created_at,
    g.finished_at AS failed_at, g.quoted, g.retries, g.prompt, r.attempt AS answered_attempt, r.remote_status,
    r.received_at, octet_length(r.body) AS bytes, substring(r.body FROM 1 FOR $8) AS answer
FROM generations AS g
LEFT JOIN generation_results AS r ON g.id = r.generation_id
WHERE
    g.state = 'failed'
    AND g.deleted_at IS NULL
    AND (g.finished_at, g.id)
    < (coalesce($1::timestamptz, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND ($3::text IS NULL OR g.error_code = $3)
    AND ($4::text IS NULL OR g.endpoint = $4)
    AND ($5::text IS NULL OR g.type::text = $5)
    AND ($6::timestamptz IS NULL OR g.finished_at >= $6)
ORDER BY g.finished_at DESC, g.id DESC
LIMIT $7;
