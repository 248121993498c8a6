-- name: claim_samples
-- one worker at a time, once in the interval; $1: the endpoints of this deployment, $2: the largest sources they take, $4:
-- how many jobs each may have of us at once, where somebody said so
UPDATE endpoint_states AS e SET
    sample_due_at = now() + $3::interval,
    health_asked_at = now(),
    largest_source_bytes = due.largest_source_bytes,
    said_limit = due.said_limit
FROM (
    SELECT known.endpoint_id, told.largest_source_bytes, told.said_limit FROM endpoint_states AS known
    INNER JOIN unnest($1::text[], $2::bigint[], $4::integer[]) AS told (endpoint_id, largest_source_bytes, said_limit)
        ON known.endpoint_id = told.endpoint_id
    WHERE known.sample_due_at <= now()
    ORDER BY known.endpoint_id
    FOR UPDATE OF known SKIP LOCKED
) AS due
WHERE e.endpoint_id = due.endpoint_id
RETURNING e.endpoint_id, e.health_asked_at;

-- name: keep_sample
-- $3: all its machines are only starting; $4: what it teaches of how much it runs at once, $5: how many jobs were there.
-- That is as old as the question ($6): what was sent while it was on its way may be in it or not, so it counts as new.
-- $7: none of its machines works or starts. An answer that comes later than one to a later question is no news.
UPDATE endpoint_states SET
    health = $2,
    sampled_at = now(),
    learnt_limit = $4,
    learnt_seen = $5,
    out_since = CASE WHEN $7::boolean THEN coalesce(out_since, now()) END,
    learnt_at = CASE WHEN $4::integer IS NOT NULL THEN $6::timestamptz END,
    starting_at = CASE WHEN $3::boolean THEN now() ELSE starting_at END
WHERE endpoint_id = $1 AND coalesce(learnt_at <= $6::timestamptz, true);

-- name: is_unanswered
-- whether one of these ($1) was asked no longer ago than an answer takes ($2), and none was kept since; or is due: whoever
-- has its row just now may have asked it, and that is not to be seen before their commit
SELECT EXISTS (
    SELECT FROM endpoint_states
    WHERE
        endpoint_id = any($1::text[])
        AND (
            sample_due_at <= now()
            OR (health_asked_at > now() - $2::interval AND coalesce(sampled_at < health_asked_at, true))
        )
);

-- name: was_starting
SELECT starting_at > now() - $2::interval FROM endpoint_states WHERE endpoint_id = $1;
