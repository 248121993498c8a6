-- name: claim_samples
-- one worker at a time, once in the interval; $1: the endpoints of this deployment, $2: the largest sources they take
UPDATE endpoint_states AS e SET
    sample_due_at = now() + $3::interval,
    health_asked_at = now(),
    largest_source_bytes = due.largest_source_bytes
FROM (
    SELECT known.endpoint_id, told.largest_source_bytes FROM endpoint_states AS known
    INNER JOIN unnest($1::text[], $2::bigint[]) AS told (endpoint_id, largest_source_bytes)
        ON known.endpoint_id = told.endpoint_id
    WHERE known.sample_due_at <= now()
    ORDER BY known.endpoint_id
    FOR UPDATE OF known SKIP LOCKED
) AS due
WHERE e.endpoint_id = due.endpoint_id
RETURNING e.endpoint_id;

-- name: keep_sample
-- $3: all its machines are only starting; $4: what it teaches of how much it runs at once
UPDATE endpoint_states SET
    health = $2,
    sampled_at = now(),
    learnt_limit = $4,
    starting_at = CASE WHEN $3::boolean THEN now() ELSE starting_at END
WHERE endpoint_id = $1;

-- name: was_starting
SELECT starting_at > now() - $2::interval FROM endpoint_states WHERE endpoint_id = $1;
