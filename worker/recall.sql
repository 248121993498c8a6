-- What comes back from RunPod for somebody else. `now` is NULL in production.

-- name: ask_back
-- At each of these endpoints ($1: type, name, endpoint_id) the newest job that was sent ahead of its turn and is in
-- somebody's way. It waits there behind another one of its person, or its place in the line is behind that of what is
-- before it there; and its person has more than this. Somebody has joined the line since it was claimed who has nothing
-- there, and would stand before it had it not been sent: the line's clock had moved only because it was. They get the
-- place that they would have. It gets one behind all who came until now, in the order of its person's there; when it may
-- not be recalled once more ($2: how often in a round), behind all of its person's, so that another one is sent ahead. Of
-- another type's line the clock says nothing, and chance may give the place to what came back: whoever stands first in it
-- will do. One at a time at an endpoint, and one for each who came. Nothing while a worker lives who would not understand
-- ($3: the lease). $4: for how long it is on its way back; $5, $6: what a credit is in the line. What is being asked about
-- is left alone: the next look comes soon.
WITH here AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS place (type generation_type, name text, endpoint_id text)
),

there AS (
    SELECT
        g.id,
        g.user_id,
        g.type,
        g.endpoint_id,
        g.version,
        g.attempt,
        g.earlier_attempts,
        g.submitted_at,
        g.vstart,
        g.state = 'submitted'
        AND g.lease_token IS NULL
        AND g.heard_attempt IS NULL
        AND g.cancel_requested_at IS NULL AS waits,
        row_number() OVER (PARTITION BY g.endpoint_id, g.user_id ORDER BY g.submitted_at, g.id) AS nth,
        max(g.vstart) OVER (
            PARTITION BY g.endpoint_id, g.type ORDER BY g.submitted_at, g.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS stands_before,
        coalesce(
            g.state = 'submitted' AND (
                g.recalled_attempt = g.attempt
                OR g.recall_asked_at BETWEEN coalesce($7::timestamptz, now()) - $4::interval
                AND coalesce($7::timestamptz, now()) + $4::interval
            ), false
        ) AS comes_back
    FROM generations AS g
    WHERE g.endpoint_id IN (SELECT here.endpoint_id FROM here) AND g.state IN ('submitted', 'running')
),

ahead AS (
    SELECT DISTINCT ON (there.endpoint_id) there.*, a.started_at AS claimed_at, recalls.number AS recalls
    FROM there
    INNER JOIN generation_attempts AS a ON there.id = a.generation_id AND there.attempt = a.attempt
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM generation_attempts AS before
        WHERE
            before.generation_id = there.id
            AND before.attempt > there.earlier_attempts
            AND before.outcome = 'recalled'
    ) AS recalls
    WHERE
        there.waits
        AND (there.nth > 1 OR there.vstart > there.stands_before)
        AND there.endpoint_id NOT IN (SELECT back.endpoint_id FROM there AS back WHERE back.comes_back)
        AND recalls.number < $2
        AND EXISTS (
            SELECT FROM generations AS other
            WHERE other.user_id = there.user_id AND other.due_at IS NOT NULL AND other.id <> there.id
        )
        AND NOT EXISTS (
            SELECT FROM workers AS w
            WHERE w.seen_at > coalesce($7::timestamptz, now()) - $3::interval AND NOT w.recalls
        )
    ORDER BY there.endpoint_id, there.submitted_at DESC, there.id DESC
),

in_the_way AS (
    SELECT DISTINCT ON (came.id) ahead.*, came.id AS newcomer, clock.vtime, p.weight
    FROM ahead
    INNER JOIN queue_clock AS clock ON ahead.type = clock.type
    INNER JOIN user_billing AS u ON ahead.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    CROSS JOIN LATERAL (
        SELECT n.id, n.type FROM here
        INNER JOIN queue_clock AS its ON here.type = its.type
        INNER JOIN generations AS n ON here.type = n.type
        WHERE
            here.endpoint_id = ahead.endpoint_id
            AND n.state = 'reserved'
            AND NOT n.held_back
            AND (n.wanted_endpoint IS NULL OR n.wanted_endpoint = here.name)
            AND n.due_at <= coalesce($7::timestamptz, now())
            AND n.cancel_requested_at IS NULL
            AND n.heard_attempt IS NULL
            AND n.deadline_at > coalesce($7::timestamptz, now())
            AND n.vstart <= its.vtime
            AND (n.type <> ahead.type OR coalesce(n.retried_at, n.created_at) > ahead.claimed_at)
            AND NOT EXISTS (
                SELECT FROM generations AS theirs
                WHERE
                    theirs.user_id = n.user_id
                    AND theirs.due_at IS NOT NULL
                    AND theirs.endpoint_id = ahead.endpoint_id
                    AND theirs.state IN ('submitting', 'submitted', 'running')
            )
        ORDER BY n.vstart, n.id
        LIMIT 1
    ) AS came
    ORDER BY came.id, ahead.submitted_at DESC
),

moved_up AS (
    UPDATE generations AS g SET vstart = least(g.vstart, in_the_way.stands_before)
    FROM in_the_way
    WHERE g.id = in_the_way.newcomer AND g.type = in_the_way.type AND g.state = 'reserved'
)

UPDATE generations AS g SET
    recall_asked_at = coalesce($7::timestamptz, now()),
    vstart = greatest(
        g.vstart,
        in_the_way.vtime + 1
        + greatest(in_the_way.nth - 2, 0) * least(greatest(g.quoted, 1), $6::bigint) * $5::bigint / in_the_way.weight,
        CASE
            WHEN in_the_way.recalls + 1 = $2 THEN (
                SELECT max(other.vstart) + 1 FROM generations AS other
                WHERE
                    other.user_id = in_the_way.user_id
                    AND other.due_at IS NOT NULL
                    AND NOT other.held_back
                    AND other.type = in_the_way.type
                    AND other.state = 'reserved'
            )
        END
    ),
    due_at = coalesce($7::timestamptz, now())
FROM in_the_way
WHERE g.id = in_the_way.id AND g.state = 'submitted' AND g.version = in_the_way.version AND g.lease_token IS NULL
RETURNING g.*;

-- name: note_cancel
-- Before it is cancelled: whoever finds it cancelled then knows why.
UPDATE generations SET recalled_attempt = attempt
WHERE id = $1 AND state = 'submitted' AND version = $2 AND lease_token = $3
RETURNING true;
