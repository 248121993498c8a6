-- name: claim_samples
-- one worker at a time, once in the interval; $1: the endpoints of this deployment
UPDATE endpoint_states AS e SET sample_due_at = now() + $2::interval
FROM (
    SELECT endpoint_id FROM endpoint_states WHERE endpoint_id = any($1::text[]) AND sample_due_at <= now()
    ORDER BY endpoint_id
    FOR UPDATE SKIP LOCKED
) AS due
WHERE e.endpoint_id = due.endpoint_id
RETURNING e.endpoint_id;

-- name: keep_sample
-- $3: all its machines are only starting
UPDATE endpoint_states SET
    health = $2,
    sampled_at = now(),
    starting_at = CASE WHEN $3::boolean THEN now() ELSE starting_at END
WHERE endpoint_id = $1;

-- name: was_starting
SELECT starting_at > now() - $2::interval FROM endpoint_states WHERE endpoint_id = $1;
