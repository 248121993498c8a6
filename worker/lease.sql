-- Who has which row for a while. Leases are kept and given back by token. `now` is NULL in production.

-- name: due_polls
-- how many polls are due at each endpoint, and how many of them were heard of, each by an index of its own; no more than
-- $1 are counted for one
SELECT e.endpoint_id, due.polls, heard.polls AS heard FROM endpoint_states AS e
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS polls FROM (
        SELECT g.id FROM generations AS g
        WHERE
            g.state IN ('submitted', 'running')
            AND g.endpoint_id = e.endpoint_id
            AND g.due_at <= coalesce($2::timestamptz, now())
        LIMIT $1
    ) AS few
) AS due
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS polls FROM (
        SELECT g.id FROM generations AS g
        WHERE
            g.state IN ('submitted', 'running')
            AND (g.heard_attempt IS NOT NULL OR g.cancel_requested_at IS NOT NULL)
            AND g.endpoint_id = e.endpoint_id
            AND g.due_at <= coalesce($2::timestamptz, now())
        LIMIT $1
    ) AS few
) AS heard
WHERE due.polls > 0;

-- name: claim_polls
-- $3, $4: how many may be asked about at which endpoint. What was heard of comes first: a webhook or a cancel does not
-- stand in line behind thousands that are merely due.
WITH open AS (
    SELECT endpoint_id, places FROM unnest($3::text[], $4::integer[]) AS open (endpoint_id, places)
),

heard AS MATERIALIZED (
    SELECT waiting.* FROM open
    CROSS JOIN LATERAL (
        SELECT g.id, g.endpoint_id FROM generations AS g
        WHERE
            g.state IN ('submitted', 'running')
            AND (g.heard_attempt IS NOT NULL OR g.cancel_requested_at IS NOT NULL)
            AND g.endpoint_id = open.endpoint_id
            AND g.due_at <= coalesce($5::timestamptz, now())
        ORDER BY g.due_at
        LIMIT open.places
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
),

left_over AS (
    SELECT open.endpoint_id, open.places - count(heard.id) AS places FROM open
    LEFT JOIN heard ON open.endpoint_id = heard.endpoint_id
    GROUP BY open.endpoint_id, open.places
),

due AS (
    SELECT heard.id FROM heard
    UNION ALL
    SELECT waiting.id FROM left_over
    CROSS JOIN LATERAL (
        SELECT g.id FROM generations AS g
        WHERE
            g.state IN ('submitted', 'running')
            AND g.heard_attempt IS NULL
            AND g.cancel_requested_at IS NULL
            AND g.endpoint_id = left_over.endpoint_id
            AND g.due_at <= coalesce($5::timestamptz, now())
        ORDER BY g.due_at
        LIMIT left_over.places
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
)

UPDATE generations AS g SET lease_token = $1, due_at = coalesce($5::timestamptz, now()) + $2::interval
FROM due WHERE g.id = due.id
RETURNING g.*;

-- name: claim_due_finish
WITH due AS (
    SELECT id FROM generations
    WHERE state = 'finishing' AND due_at <= coalesce($4::timestamptz, now())
    ORDER BY due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)

UPDATE generations AS g SET lease_token = $1, due_at = coalesce($4::timestamptz, now()) + $2::interval
FROM due WHERE g.id = due.id
RETURNING g.*;

-- name: claim_due_texts
-- as above, of texts alone: nothing of theirs is fetched
WITH due AS (
    SELECT id FROM generations
    WHERE state = 'finishing' AND type = 'text' AND due_at <= coalesce($4::timestamptz, now())
    ORDER BY due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)

UPDATE generations AS g SET lease_token = $1, due_at = coalesce($4::timestamptz, now()) + $2::interval
FROM due WHERE g.id = due.id
RETURNING g.*;

-- name: claim_due_sweep
-- submitting whose lease or grace is over; reserved that is cancelled or heard of, or past its deadline; each by its
-- own index, however many wait
WITH candidates AS (
    (
        SELECT id FROM generations
        WHERE state = 'submitting' AND due_at <= coalesce($4::timestamptz, now())
        ORDER BY due_at
        LIMIT $3
    )
    UNION ALL
    (
        SELECT id FROM generations
        WHERE
            state = 'reserved'
            AND (cancel_requested_at IS NOT NULL OR heard_attempt IS NOT NULL)
            AND due_at <= coalesce($4::timestamptz, now())
        ORDER BY due_at
        LIMIT $3
    )
    UNION ALL
    (
        SELECT id FROM generations
        WHERE state = 'reserved' AND deadline_at <= coalesce($4::timestamptz, now())
        ORDER BY deadline_at
        LIMIT $3
    )
),

due AS (
    SELECT g.id FROM generations AS g
    WHERE
        g.id IN (SELECT candidates.id FROM candidates)
        AND g.state IN ('reserved', 'submitting')
        AND g.due_at <= coalesce($4::timestamptz, now())
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)

UPDATE generations AS g SET lease_token = $1, due_at = coalesce($4::timestamptz, now()) + $2::interval
FROM due WHERE g.id = due.id
RETURNING g.*;

-- name: about_to_send
-- Just before the call to RunPod: how long ago it was claimed, if it is ours still. A lease that is not fresh ($4) is
-- renewed, since the call may take as long as one; whoever took it meanwhile is not disturbed.
WITH mine AS (
    SELECT id, coalesce($5::timestamptz, now()) - (due_at - $3::interval) AS age FROM generations
    WHERE id = $1 AND lease_token = $2 AND state = 'submitting'
),

renewed AS (
    UPDATE generations AS g SET due_at = coalesce($5::timestamptz, now()) + $3::interval
    FROM mine WHERE g.id = mine.id AND g.lease_token = $2 AND g.state = 'submitting' AND mine.age > $4::interval
    RETURNING g.id
)

SELECT mine.age FROM mine
LEFT JOIN renewed ON mine.id = renewed.id
WHERE mine.age <= $4::interval OR renewed.id IS NOT NULL;

-- name: renew
UPDATE generations SET due_at = now() + $3::interval
WHERE id = $1 AND lease_token = $2 AND due_at IS NOT NULL
RETURNING true;

-- name: reschedule
UPDATE generations AS g SET
    lease_token = NULL,
    due_at = coalesce($5::timestamptz, now()) + r.wait,
    progress = coalesce(r.progress, g.progress)
FROM unnest($2::uuid[], $3::interval[], $4::text[]) AS r (id, wait, progress)
WHERE g.id = r.id AND g.lease_token = $1;
