-- What waits and where it may go. `now` is NULL in production.

-- name: look
-- One row for each endpoint ($1): its breaker; how many generations wait for any of its type (those that want one that
-- is not here are told so by whoever claims them), and for this one by name; how many it should have at once as far as
-- that was learnt lately ($4); whether it said lately that it is out of machines. No more than $2 are counted.
SELECT
    p.name,
    coalesce(e.breaker, 'closed') AS breaker,
    coalesce(e.failures, 0) AS failures,
    coalesce(CASE e.breaker
        WHEN 'open' THEN e.retry_at <= coalesce($3::timestamptz, now())
        WHEN 'half_open' THEN e.probe_until <= coalesce($3::timestamptz, now())
    END, false) AS may_probe,
    e.out_since IS NOT NULL AND e.sampled_at > coalesce($3::timestamptz, now()) - $4::interval AS is_out,
    CASE WHEN e.learnt_at > coalesce($3::timestamptz, now()) - $4::interval THEN e.learnt_limit END AS learnt_limit,
    anywhere.waiting,
    here.waiting AS wanted
FROM jsonb_to_recordset($1::jsonb) AS p (type generation_type, name text, endpoint_id text)
LEFT JOIN endpoint_states AS e ON p.endpoint_id = e.endpoint_id
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS waiting FROM (
        SELECT g.id FROM generations AS g
        WHERE
            g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = p.type
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
            AND (
                g.wanted_endpoint IS NULL
                OR NOT EXISTS (
                    SELECT FROM jsonb_to_recordset($1::jsonb) AS here (type generation_type, name text)
                    WHERE here.type = g.type AND here.name = g.wanted_endpoint
                )
            )
        LIMIT $2
    ) AS few
) AS anywhere
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS waiting FROM (
        SELECT g.id FROM generations AS g
        WHERE
            g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = p.type
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
            AND g.wanted_endpoint = p.name
        LIMIT $2
    ) AS few
) AS here;

-- name: hurry
-- These keep somebody waiting ($1): they are asked how they are $2 after they were asked last, but not before $3 from now.
-- Whoever comes second changes nothing; what another has locked is being asked or hurried.
UPDATE endpoint_states AS e SET sample_due_at = hurried.due_at
FROM (
    SELECT
        known.endpoint_id,
        greatest(known.health_asked_at + $2::interval, coalesce($4::timestamptz, now()) + $3::interval) AS due_at
    FROM endpoint_states AS known
    WHERE known.endpoint_id = any($1::text[])
    ORDER BY known.endpoint_id
    FOR UPDATE SKIP LOCKED
) AS hurried
WHERE e.endpoint_id = hurried.endpoint_id AND e.sample_due_at > hurried.due_at;
