-- The worker's transitions. Guards compare id, state, version and lease token. `now` is NULL in production.

-- name: claim_reserved
-- reserved → submitting, with the attempt on record before the call. $3: who goes where; their rows are locked already
-- (worker/line.sql). $5 and $6: what a place costs, as in `insert`.
WITH seats AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb) AS seat (id uuid, name text, endpoint_id text)
),

claimed AS (
    UPDATE generations AS g SET
        state = 'submitting',
        attempt = (SELECT coalesce(max(a.attempt), 0) + 1 FROM generation_attempts AS a WHERE a.generation_id = g.id),
        endpoint = seat.name,
        endpoint_id = seat.endpoint_id,
        lease_token = $1,
        due_at = coalesce($4::timestamptz, now()) + $2::interval,
        transitioned_at = coalesce($4::timestamptz, now()),
        transition_actor = 'worker/submit',
        transition_reason = 'claimed',
        transition_detail = jsonb_build_object('endpoint', seat.name)
    FROM seats AS seat
    WHERE g.id = seat.id AND g.state = 'reserved'
    RETURNING g.*
),

attempts AS (
    INSERT INTO generation_attempts (generation_id, attempt, endpoint, endpoint_id, started_at, vfinish)
    SELECT
        claimed.id,
        claimed.attempt,
        claimed.endpoint,
        claimed.endpoint_id,
        coalesce($4::timestamptz, now()),
        greatest(claimed.vstart, line.vtime) + least(greatest(claimed.quoted, 1), $6::bigint) * $5::bigint / p.weight
    FROM claimed
    INNER JOIN queue_clock AS line ON claimed.type = line.type
    INNER JOIN user_billing AS u ON claimed.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
)

SELECT * FROM claimed;

-- name: record_submitted
-- heard_attempt is a column of this row, so that a webhook which commits while we wait for the row's lock is seen
WITH moved AS (
    UPDATE generations SET
        state = 'submitted',
        remote_id = $4,
        submitted_at = coalesce($7::timestamptz, now()),
        recall_asked_at = NULL,
        lease_token = NULL,
        due_at = CASE
            WHEN heard_attempt IS NOT NULL OR cancel_requested_at IS NOT NULL THEN coalesce($7::timestamptz, now())
            ELSE coalesce($7::timestamptz, now()) + $5::interval
        END,
        deadline_at = coalesce($7::timestamptz, now()) + $6::interval,
        transitioned_at = coalesce($7::timestamptz, now()),
        transition_actor = 'worker/submit',
        transition_reason = 'accepted-by-runpod',
        transition_detail = jsonb_build_object('remote_id', $4::text, 'attempt', attempt)
    WHERE id = $1 AND state = 'submitting' AND version = $2 AND lease_token = $3
    RETURNING *
),

attempted AS (
    UPDATE generation_attempts AS a SET outcome = 'accepted', remote_id = $4
    FROM moved WHERE a.generation_id = moved.id AND a.attempt = moved.attempt
)

SELECT * FROM moved;

-- name: return_to_reserved
-- It keeps its place in the line while that is not behind where who comes new starts. Once the clock passed it, with
-- those of its person that were claimed beside it, it gets a new place as in `insert`, behind its person's own: a crowd
-- that RunPod turned away would else stand, all of it, before whoever came since.
WITH returned AS (
    SELECT id, user_id, type, wanted_endpoint, vstart, quoted FROM generations
    WHERE id = $1 AND state = 'submitting' AND version = $2 AND lease_token = $3
    FOR NO KEY UPDATE
),

passed AS (
    SELECT
        r.user_id,
        r.type,
        line.start,
        least(greatest(r.quoted, 1), $10::bigint) * $9::bigint / p.weight AS vcost
    FROM returned AS r
    CROSS JOIN LATERAL (SELECT generation_line_start(r.type, r.wanted_endpoint) AS start) AS line
    INNER JOIN user_billing AS u ON r.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    WHERE r.vstart < line.start
),

turn AS (
    INSERT INTO queue_ends AS ends (user_id, type, vfinish)
    SELECT passed.user_id, passed.type, passed.start + passed.vcost FROM passed
    ON CONFLICT (user_id, type) DO UPDATE SET
        vfinish = greatest(ends.vfinish + (SELECT passed.vcost FROM passed), excluded.vfinish)
    RETURNING ends.vfinish
),

moved AS (
    UPDATE generations AS g SET
        state = 'reserved',
        vstart = coalesce((SELECT turn.vfinish - passed.vcost FROM turn CROSS JOIN passed), g.vstart),
        lease_token = NULL,
        due_at = coalesce($8::timestamptz, now()) + $6::interval,
        transitioned_at = coalesce($8::timestamptz, now()),
        transition_actor = $7,
        transition_reason = $5,
        transition_detail = jsonb_build_object('attempt', g.attempt)
    FROM returned
    WHERE g.id = returned.id AND g.state = 'submitting' AND g.version = $2 AND g.lease_token = $3
    RETURNING g.*
),

attempted AS (
    UPDATE generation_attempts AS a SET outcome = $4, detail = $5
    FROM moved WHERE a.generation_id = moved.id AND a.attempt = moved.attempt
)

SELECT * FROM moved;

-- name: record_recalled
-- Before it began it was cancelled, and waits in our line again, where it was. What RunPod says of that attempt counts no
-- more, unless it should have completed all the same. Its stream, if any, has nothing. $7: it may be there.
WITH moved AS (
    UPDATE generations SET
        state = 'reserved',
        heard_attempt = NULL,
        recall_asked_at = NULL,
        remote_id = NULL,
        progress = NULL,
        submitted_at = NULL,
        started_at = NULL,
        lease_token = NULL,
        due_at = coalesce($6::timestamptz, now()),
        deadline_at = coalesce($6::timestamptz, now()) + $4::interval,
        transitioned_at = coalesce($6::timestamptz, now()),
        transition_actor = $5,
        transition_reason = 'recalled',
        transition_detail = jsonb_build_object('attempt', attempt)
    WHERE id = $1 AND state = 'submitted' AND version = $2 AND lease_token = $3
    RETURNING *
),

attempted AS (
    UPDATE generation_attempts AS a SET
        outcome = 'recalled',
        orphaned_at = coalesce(a.orphaned_at, $6::timestamptz, now()),
        orphan_cancelled_at = CASE WHEN NOT $7 THEN coalesce($6::timestamptz, now()) END
    FROM moved WHERE a.generation_id = moved.id AND a.attempt = moved.attempt
),

superseded AS (
    UPDATE generation_streams AS s SET
        lease_token = NULL,
        due_at = NULL,
        ended_at = coalesce(s.ended_at, $6::timestamptz, now()),
        trouble = coalesce(s.trouble, 'superseded')
    FROM moved WHERE s.generation_id = moved.id AND s.attempt = moved.attempt
)

SELECT * FROM moved;

-- name: await_webhook
-- no change of state: the attempt is marked, the lease given back, and the sweep looks again after the grace
WITH moved AS (
    UPDATE generations SET
        lease_token = NULL,
        due_at = CASE
            WHEN heard_attempt IS NOT NULL THEN coalesce($6::timestamptz, now())
            ELSE coalesce($6::timestamptz, now()) + $4::interval
        END
    WHERE id = $1 AND state = 'submitting' AND version = $2 AND lease_token = $3
    RETURNING *
),

attempted AS (
    UPDATE generation_attempts AS a SET outcome = 'unknown', detail = $5
    FROM moved WHERE a.generation_id = moved.id AND a.attempt = moved.attempt
)

SELECT * FROM moved;

-- name: refuse_attempt
UPDATE generation_attempts SET outcome = 'refused', detail = $3 WHERE generation_id = $1 AND attempt = $2;

-- name: record_running
-- What has begun is recalled no more.
UPDATE generations SET
    state = 'running',
    recalled_attempt = NULL,
    started_at = coalesce($7::timestamptz, now()),
    lease_token = NULL,
    due_at = coalesce($7::timestamptz, now()) + $4::interval,
    deadline_at = coalesce($7::timestamptz, now()) + $5::interval,
    progress = coalesce($6, progress),
    transitioned_at = coalesce($7::timestamptz, now()),
    transition_actor = 'worker/poll',
    transition_reason = 'in-progress',
    transition_detail = '{}'
WHERE id = $1 AND state = 'submitted' AND version = $2 AND lease_token = $3
RETURNING *;

-- name: record_ran
-- The job ran and ended between two of our looks: its run is written down with RunPod's own duration, before its end.
UPDATE generations SET
    state = 'running',
    started_at = greatest(
        submitted_at, coalesce($5::timestamptz, now()) - make_interval(secs => $4::bigint / 1000.0)
    ),
    transitioned_at = greatest(
        submitted_at, coalesce($5::timestamptz, now()) - make_interval(secs => $4::bigint / 1000.0)
    ),
    transition_actor = 'worker/poll',
    transition_reason = 'ran-unseen',
    transition_detail = '{}'
WHERE id = $1 AND state = 'submitted' AND version = $2 AND lease_token = $3
RETURNING *;

-- name: record_finishing
-- Once a result is ours, every other attempt that may still run there is an orphan. A failure leaves them as they are:
-- one of them may have what was paid for (pursuit.sql: turn_to_another).
WITH moved AS (
    UPDATE generations SET
        state = 'finishing',
        lease_token = NULL,
        due_at = coalesce($9::timestamptz, now()),
        deadline_at = coalesce($9::timestamptz, now()) + $8::interval,
        delay_ms = $6,
        execution_ms = $7,
        transitioned_at = coalesce($9::timestamptz, now()),
        transition_actor = 'worker/poll',
        transition_reason = 'remote-' || lower($4),
        transition_detail = jsonb_build_object('bytes', octet_length($5::bytea))
    WHERE id = $1 AND state IN ('submitted', 'running') AND version = $2 AND lease_token = $3
    RETURNING *
),

kept AS (
    INSERT INTO generation_results (generation_id, attempt, remote_status, body, received_at)
    SELECT id, attempt, $4, $5, coalesce($9::timestamptz, now()) FROM moved
    ON CONFLICT (generation_id) DO UPDATE SET
        attempt = excluded.attempt,
        remote_status = excluded.remote_status,
        body = excluded.body,
        received_at = excluded.received_at
),

attempted AS (
    UPDATE generation_attempts AS a SET
        remote_status = CASE WHEN a.attempt = moved.attempt THEN $4 END,
        orphaned_at = CASE WHEN a.attempt <> moved.attempt THEN coalesce(a.orphaned_at, $9::timestamptz, now()) END
    FROM moved
    WHERE
        a.generation_id = moved.id
        AND (
            a.attempt = moved.attempt
            OR ($4 = 'COMPLETED' AND a.remote_status IS NULL AND a.outcome IN ('calling', 'unknown', 'accepted', 'recalled'))
        )
)

SELECT * FROM moved;

-- name: record_settled
-- Every attempt that may still run there is an orphan now: the sweep cancels it, its cost is ours.
-- RunPod's answer has served when it was delivered; of a failure it is kept for ops. A webhook does not fence a call that is
-- under way, so what it said of this generation is looked at here: heard_attempt is a column of this row, as above.
WITH moved AS (
    UPDATE generations SET
        state = $4::text::generation_state,
        charged = $5,
        outputs = $6,
        error_code = $7,
        error_detail = $8,
        held_back = false,
        lease_token = NULL,
        due_at = NULL,
        deadline_at = NULL,
        finished_at = coalesce($12::timestamptz, now()),
        transitioned_at = coalesce($12::timestamptz, now()),
        transition_actor = $10,
        transition_reason = $9,
        transition_detail = $11
    WHERE
        id = $1
        AND version = $2
        AND lease_token = $3
        AND NOT generation_is_terminal(state)
        AND NOT ($4 = 'failed' AND state = 'submitting' AND heard_attempt IS NOT NULL)
    RETURNING *
),

orphaned AS (
    UPDATE generation_attempts AS a SET orphaned_at = coalesce($12::timestamptz, now())
    FROM moved
    WHERE
        a.generation_id = moved.id
        AND a.orphaned_at IS NULL
        AND a.remote_status IS NULL
        AND a.outcome IN ('calling', 'unknown', 'accepted', 'recalled')
),

served AS (
    DELETE FROM generation_results AS r USING moved
    WHERE r.generation_id = moved.id AND moved.state = 'completed'
)

SELECT * FROM moved;

-- name: let_in
-- The next of a person's that are held back, oldest first, as far as their plan has room: each joins the line where it is
-- now, one after the other, as if it were submitted now; its time in the line begins. After the account was locked by the
-- money of the one that ended, so that nobody else counts at the same time. One whose row is locked is about to end, too,
-- and waits for the account: waiting for it would never end. The sweep lets in whom this passed over.
WITH account AS (
    SELECT
        p.weight,
        greatest(0, least(coalesce(p.max_in_flight, $2) - (
            SELECT count(*) FROM (
                SELECT FROM generations AS mine
                WHERE mine.user_id = $1 AND mine.due_at IS NOT NULL AND NOT mine.held_back
                LIMIT p.max_in_flight
            ) AS on_their_way
            WHERE p.max_in_flight IS NOT NULL
        ), $2)) AS free
    FROM user_billing AS u
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    WHERE u.user_id = $1
),

next AS (
    SELECT
        g.*,
        least(greatest(g.quoted, 1), $5::bigint) * $4::bigint / account.weight AS vcost,
        generation_line_start(g.type, g.wanted_endpoint) AS start
    FROM account
    CROSS JOIN LATERAL (
        SELECT held.id, held.type, held.wanted_endpoint, held.deadline_at, held.quoted FROM generations AS held
        WHERE held.user_id = $1 AND held.held_back
        ORDER BY held.deadline_at, held.id
        LIMIT account.free
        FOR UPDATE SKIP LOCKED
    ) AS g
),

placed AS (
    SELECT
        next.id,
        next.type,
        next.vcost,
        greatest(ends.vfinish, next.start)
        + sum(next.vcost) OVER (PARTITION BY next.type ORDER BY next.deadline_at, next.id)::bigint AS vfinish
    FROM next
    LEFT JOIN queue_ends AS ends ON ends.user_id = $1 AND next.type = ends.type
),

ended AS (
    INSERT INTO queue_ends AS ends (user_id, type, vfinish)
    SELECT $1, placed.type, max(placed.vfinish) FROM placed GROUP BY placed.type
    ON CONFLICT (user_id, type) DO UPDATE SET vfinish = greatest(ends.vfinish, excluded.vfinish)
)

UPDATE generations AS g SET
    held_back = false,
    vstart = placed.vfinish - placed.vcost,
    due_at = coalesce($3::timestamptz, now()),
    deadline_at = coalesce($3::timestamptz, now()) + $6::interval
FROM placed
WHERE g.id = placed.id AND g.state = 'reserved' AND g.held_back
RETURNING g.*;
