-- Statements both processes use on generations. `now` parameters are NULL in production: the database's clock.

-- name: insert
-- In the order of the line (see …_twin_fairness.sql). The account is locked by the hold, so that its end in the line and
-- what it has on its way are not counted twice; the clock is read without a lock. Who has as many on their way as the
-- plan allows is held back, due only when its time is over.
WITH account AS MATERIALIZED (
    SELECT u.user_id, p.max_in_flight, least(greatest($12::bigint, 1), $17::bigint) * $16::bigint / p.weight AS vcost
    FROM user_billing AS u
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    WHERE u.user_id = $2
),

turn AS (
    INSERT INTO queue_ends AS ends (user_id, type, vfinish)
    SELECT account.user_id, clock.type, clock.vtime + account.vcost FROM account
    INNER JOIN queue_clock AS clock ON clock.type = $3::text::generation_type
    ON CONFLICT (user_id, type) DO UPDATE SET
        vfinish = greatest(ends.vfinish + (SELECT account.vcost FROM account), excluded.vfinish)
    RETURNING ends.vfinish
),

place AS (
    SELECT
        turn.vfinish - account.vcost AS vstart,
        coalesce((
            SELECT count(*) FROM (
                SELECT FROM generations AS mine
                WHERE mine.user_id = $2 AND mine.due_at IS NOT NULL AND NOT mine.held_back
                LIMIT account.max_in_flight
            ) AS on_their_way
        ) >= account.max_in_flight, false) AS held_back
    FROM account CROSS JOIN turn
)

INSERT INTO generations (
    id, user_id, type, prompt, batch_size, parameters, source, client_reference, request_id,
    hold_id, price_version, quoted, wanted_endpoint, vstart, held_back, created_at, due_at, deadline_at,
    transitioned_at, transition_actor, transition_reason
)
SELECT
    $1, $2, $3::text::generation_type, $4, $5, $6, $7, $8, $9,
    $10, $11, $12, $15, place.vstart, place.held_back, clock.now,
    CASE WHEN place.held_back THEN clock.now + $13::interval ELSE clock.now END, clock.now + $13::interval,
    clock.now, 'api', 'accepted'
FROM place CROSS JOIN (SELECT coalesce($14::timestamptz, now()) AS now) AS clock
RETURNING *;

-- name: get
SELECT * FROM generations WHERE id = $1 AND ($2::text IS NULL OR user_id = $2);

-- name: request_cancel
-- The flag, and due at once; a poll in flight is fenced, so that the flag is seen. Submitting keeps its lease: the call
-- to RunPod is under way, and its record looks at the flag. Asking again changes nothing, or it would fence the answer.
UPDATE generations SET
    cancel_requested_at = coalesce(cancel_requested_at, $3::timestamptz, now()),
    due_at = CASE
        WHEN state = 'submitting' OR cancel_requested_at IS NOT NULL THEN due_at
        ELSE coalesce($3::timestamptz, now())
    END,
    lease_token = CASE WHEN state = 'submitting' OR cancel_requested_at IS NOT NULL THEN lease_token END
WHERE id = $1 AND user_id = $2 AND state IN ('reserved', 'submitting', 'submitted', 'running')
RETURNING *;

-- name: hurry
-- As above: an answer that was read before the webhook came is stale, so its reader is fenced. The word of an attempt
-- that is not pursued any more counts only when it completed; the call of a newer one is left to end by itself.
UPDATE generations AS g SET
    heard_attempt = $2,
    due_at = CASE
        WHEN g.state = 'submitting' AND $2 < g.attempt THEN g.due_at
        ELSE coalesce($3::timestamptz, now())
    END,
    lease_token = CASE WHEN g.state = 'submitting' THEN g.lease_token END
WHERE
    g.id = $1
    AND g.state IN ('reserved', 'submitting', 'submitted', 'running')
    AND (($2 = g.attempt AND g.heard_attempt IS NULL) OR ($4 AND $2 <= g.attempt))
RETURNING g.*;
