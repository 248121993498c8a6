-- What comes back from RunPod for somebody else. `now` is NULL in production.

-- name: ask_back
-- At each of these endpoints ($1: type, name, endpoint_id, how many jobs it may have) the newest job that waits there, when
-- somebody else's in our line stands before it: what is sent ahead does not move the line's clock (transitions.sql), so
-- whoever came since does. Who that is, is found as at a claim (line.sql: heads). Its place in the line is what it was. None
-- comes back more often than $2 in a round: then it is its turn. One at a time at an endpoint, and at one endpoint after the
-- other for whoever waits. Nothing where more are there than may be, so that nobody would have the place; where nothing can
-- be sent now, or the machine would stand idle; and nothing while a worker lives who would not understand ($3: the lease).
-- $4: for how long it is on its way back, $5: after how long of that another endpoint is asked. What is being asked about is
-- left alone: the next look comes soon.
WITH here AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS place (
        type generation_type, name text, endpoint_id text, jobs integer, anywhere boolean
    )
),

there AS (
    SELECT
        g.id,
        g.user_id,
        g.type,
        g.endpoint_id,
        g.version,
        g.submitted_at,
        g.vstart,
        g.wanted_endpoint,
        row_number() OVER (PARTITION BY g.endpoint_id, g.user_id ORDER BY g.submitted_at, g.id) AS nth,
        count(*) OVER (PARTITION BY g.endpoint_id) AS jobs,
        g.state = 'submitted' AND g.heard_attempt IS NULL AND g.cancel_requested_at IS NULL AS waits,
        g.state = 'submitted'
        AND g.recall_asked_at BETWEEN coalesce($6::timestamptz, now()) - $4::interval
        AND coalesce($6::timestamptz, now()) + $4::interval AS comes_back,
        g.recall_asked_at
    FROM generations AS g
    WHERE g.endpoint_id IN (SELECT here.endpoint_id FROM here) AND g.state IN ('submitted', 'running')
),

ahead AS (
    SELECT DISTINCT ON (there.endpoint_id) there.* FROM there
    WHERE
        there.waits
        AND there.jobs <= (SELECT max(here.jobs) FROM here WHERE here.endpoint_id = there.endpoint_id)
        AND NOT EXISTS (
            SELECT FROM there AS back
            WHERE back.endpoint_id = there.endpoint_id AND back.comes_back
        )
        AND NOT EXISTS (
            SELECT FROM endpoint_states AS e WHERE e.endpoint_id = there.endpoint_id AND e.breaker <> 'closed'
        )
        AND NOT EXISTS (
            SELECT FROM endpoint_allowances AS allowance
            WHERE
                allowance.endpoint_id = there.endpoint_id
                AND allowance.operation = 'run'
                AND allowance.closed_until > coalesce($6::timestamptz, now())
        )
    ORDER BY there.endpoint_id, there.submitted_at DESC, there.id DESC
),

-- Whose jobs count against them: those who have one there, and those who had one of the last places.
had AS (
    SELECT * FROM generation_last_places((SELECT array_agg(DISTINCT ahead.endpoint_id) FROM ahead))
),

in_the_way AS (
    SELECT DISTINCT ON (first.id) ahead.id, ahead.version
    FROM ahead
    INNER JOIN queue_clock AS own ON ahead.type = own.type
    CROSS JOIN LATERAL (
        SELECT
            ahead.nth > 1 OR EXISTS (
                SELECT FROM had WHERE had.endpoint_id = ahead.endpoint_id AND had.user_id = ahead.user_id
            ) AS one
    ) AS another
    CROSS JOIN LATERAL (SELECT greatest(ahead.vstart - own.vtime, another.one::integer) AS by) AS stands
    INNER JOIN here ON ahead.endpoint_id = here.endpoint_id
    INNER JOIN queue_clock AS line ON here.type = line.type
    -- All that their line lags there (line_time.sql), and of ours nothing: so none is recalled in vain.
    LEFT JOIN queue_meetings AS met ON ahead.endpoint_id = met.endpoint_id AND here.type = met.type
    CROSS JOIN LATERAL (SELECT greatest(0, coalesce(line.vtime - met.vstart - met.others, 0)) AS by) AS lags
    CROSS JOIN LATERAL (
        SELECT n.id, n.type FROM generations AS n
        CROSS JOIN LATERAL (
            SELECT EXISTS (
                SELECT FROM there AS theirs
                WHERE theirs.endpoint_id = ahead.endpoint_id AND theirs.user_id = n.user_id
            ) OR EXISTS (
                SELECT FROM had WHERE had.endpoint_id = ahead.endpoint_id AND had.user_id = n.user_id
            ) AS one
        ) AS has
        CROSS JOIN LATERAL (
            SELECT
                -- Whom the clock has passed who had a place stands where that ends (line.sql), and has nobody sent back.
                CASE WHEN n.vstart > line.vtime THEN n.vstart - line.vtime + lags.by WHEN NOT has.one THEN 0 END AS by
        ) AS theirs
        WHERE
            n.type = here.type
            AND n.vstart <= line.vtime + stands.by
            AND n.state = 'reserved'
            AND NOT n.held_back
            AND ((n.wanted_endpoint IS NULL AND here.anywhere) OR n.wanted_endpoint = here.name)
            AND n.due_at <= coalesce($6::timestamptz, now())
            AND n.cancel_requested_at IS NULL
            AND n.heard_attempt IS NULL
            AND n.deadline_at > coalesce($6::timestamptz, now())
            AND n.user_id <> ahead.user_id
            AND (
                theirs.by < stands.by
                OR (theirs.by = stands.by AND has.one::integer < another.one::integer)
                OR (
                    theirs.by = stands.by
                    AND has.one = another.one
                    AND n.type = ahead.type
                    AND n.wanted_endpoint IS NOT DISTINCT FROM ahead.wanted_endpoint
                    AND n.vstart < ahead.vstart
                )
            )
        ORDER BY n.vstart, n.id
        LIMIT 1
    ) AS first
    WHERE
        (
            SELECT count(*) FROM generation_attempts AS a INNER JOIN generations AS g ON a.generation_id = g.id
            WHERE g.id = ahead.id AND a.attempt > g.earlier_attempts AND a.outcome = 'recalled'
        ) < $2
        AND NOT EXISTS (
            SELECT FROM there AS elsewhere
            WHERE
                elsewhere.comes_back
                AND elsewhere.recall_asked_at > coalesce($6::timestamptz, now()) - $5::interval
                AND elsewhere.endpoint_id IN (SELECT here.endpoint_id FROM here WHERE here.type = first.type)
        )
        AND NOT EXISTS (
            SELECT FROM workers AS w
            WHERE w.seen_at > coalesce($6::timestamptz, now()) - $3::interval AND NOT w.recalls
        )
    ORDER BY first.id, ahead.submitted_at DESC
),

-- nobody who has a row is waited for: claims wait for us
free AS (
    SELECT g.id FROM generations AS g
    INNER JOIN in_the_way ON g.id = in_the_way.id AND g.version = in_the_way.version
    WHERE g.state = 'submitted' AND g.lease_token IS NULL
    FOR NO KEY UPDATE OF g SKIP LOCKED
)

UPDATE generations AS g SET
    recall_asked_at = coalesce($6::timestamptz, now()),
    due_at = coalesce($6::timestamptz, now())
FROM free WHERE g.id = free.id
RETURNING g.*;

-- name: ask_elsewhere
-- What has waited for longer than $5 at endpoints that have been out of machines for as long, and may go to another ($1:
-- endpoint_id, type).
-- Whoever named the endpoint waits for it. No more than $7 at once, those that waited longest. The rest as above.
WITH stuck AS (
    SELECT g.id FROM jsonb_to_recordset($1::jsonb) AS out (endpoint_id text, type generation_type)
    INNER JOIN generations AS g ON out.endpoint_id = g.endpoint_id AND out.type = g.type
    WHERE
        g.state = 'submitted'
        AND g.lease_token IS NULL
        AND g.wanted_endpoint IS NULL
        AND g.heard_attempt IS NULL
        AND g.cancel_requested_at IS NULL
        AND g.submitted_at < coalesce($6::timestamptz, now()) - $5::interval
        AND EXISTS (
            SELECT FROM endpoint_states AS e
            WHERE e.endpoint_id = g.endpoint_id AND e.out_since < coalesce($6::timestamptz, now()) - $5::interval
        )
        AND coalesce(
            g.recall_asked_at NOT BETWEEN coalesce($6::timestamptz, now()) - $4::interval
            AND coalesce($6::timestamptz, now()) + $4::interval,
            true
        )
        AND (
            SELECT count(*) FROM generation_attempts AS a
            WHERE a.generation_id = g.id AND a.attempt > g.earlier_attempts AND a.outcome = 'recalled'
        ) < $2
        AND NOT EXISTS (
            SELECT FROM workers AS w
            WHERE w.seen_at > coalesce($6::timestamptz, now()) - $3::interval AND NOT w.recalls
        )
    ORDER BY g.submitted_at
    LIMIT $7
    FOR NO KEY UPDATE OF g SKIP LOCKED
)

UPDATE generations AS g SET
    recall_asked_at = coalesce($6::timestamptz, now()),
    due_at = coalesce($6::timestamptz, now())
FROM stuck WHERE g.id = stuck.id
RETURNING g.*;

-- name: note_cancel
-- Before it is cancelled: whoever finds it cancelled then knows why.
UPDATE generations SET recalled_attempt = attempt
WHERE id = $1 AND state = 'submitted' AND version = $2 AND lease_token = $3
RETURNING true;

-- name: may_be_sent_again
-- What is found cancelled, or gone, was recalled, and is the last that was sent in this round. After a later one it is only
-- what RunPod said, not truly, that it had completed.
SELECT EXISTS (
    SELECT FROM generation_attempts AS a
    WHERE
        a.generation_id = $1
        AND a.attempt = $2
        AND (a.outcome = 'recalled' OR ($3 AND a.remote_status IS DISTINCT FROM 'COMPLETED'))
        AND NOT EXISTS (
            SELECT FROM generation_attempts AS later
            WHERE later.generation_id = $1 AND later.attempt > $2 AND later.outcome NOT IN ('not_sent', 'recalled')
        )
);
