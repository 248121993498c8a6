-- Statements both processes use on generations. `now` parameters are NULL in production: the database's clock.

-- name: insert
-- In the order of the line (see …_twin_fairness.sql). The account is locked by the hold, so that its end in the line and
-- what it has on its way are not counted twice; the clock is read without a lock. Who has as many on their way as the
-- plan allows is held back, due only when its time is over: it takes no room in the line, and gets its place when it is
-- let in (worker/transitions.sql).
WITH account AS MATERIALIZED (
    SELECT
        u.user_id,
        limited.held_back,
        CASE WHEN limited.held_back THEN 0
            ELSE least(greatest($12::bigint, 1), $17::bigint) * $16::bigint / p.weight
        END AS vcost
    FROM user_billing AS u
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    CROSS JOIN LATERAL (
        SELECT coalesce(count(*) >= p.max_in_flight, false) AS held_back FROM (
            SELECT FROM generations AS mine
            WHERE p.max_in_flight IS NOT NULL AND mine.user_id = u.user_id AND mine.due_at IS NOT NULL AND NOT mine.held_back
            LIMIT p.max_in_flight
        ) AS on_their_way
    ) AS limited
    WHERE u.user_id = $2
),

turn AS (
    INSERT INTO queue_ends AS ends (user_id, type, vfinish)
    SELECT account.user_id, $3::text::generation_type, generation_line_start($3::text::generation_type, $15) + account.vcost
    FROM account
    ON CONFLICT (user_id, type) DO UPDATE SET
        vfinish = greatest(ends.vfinish + (SELECT account.vcost FROM account), excluded.vfinish)
    RETURNING ends.vfinish
),

place AS (
    SELECT turn.vfinish - account.vcost AS vstart, account.held_back FROM account CROSS JOIN turn
)

INSERT INTO generations (
    id, user_id, type, prompt, batch_size, parameters, source, client_reference, request_id,
    hold_id, price_version, quoted, wanted_endpoint, vstart, held_back, created_at, due_at, deadline_at,
    transitioned_at, transition_actor, transition_reason
)
SELECT
    $1, $2, $3::text::generation_type, $4, $5, $6, $7, $8, $9,
    $10, $11, $12, $15, place.vstart, place.held_back, clock.now,
    CASE WHEN place.held_back THEN clock.deadline ELSE clock.now END, clock.deadline,
    clock.now, 'api', 'accepted'
FROM place
CROSS JOIN LATERAL (
    SELECT
        coalesce($14::timestamptz, now()) AS now,
        coalesce($14::timestamptz, now()) + CASE WHEN place.held_back THEN $18::interval ELSE $13::interval END AS deadline
) AS clock
RETURNING *;

-- name: keep_estimate
-- in the transaction that wrote the row: nobody else has it
UPDATE generations SET estimated_seconds = $2 WHERE id = $1;

-- name: get
-- a person does not see what they deleted
SELECT * FROM generations WHERE id = $1 AND ($2::text IS NULL OR (user_id = $2 AND deleted_at IS NULL));

-- name: lock
-- until the transaction ends; what depends on it is read in a statement after this one. What its person deleted moves no
-- more, whoever asks.
SELECT * FROM generations
WHERE id = $1 AND ($2::text IS NULL OR user_id = $2) AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: retry
-- failed or cancelled → reserved, under the hold of the next round. How the round ended is kept in generation_retries,
-- with the beginning of RunPod's answer. `attempt` is 0 until the next one is made, so that no word of an earlier one is
-- taken for it; one whose webhook said lately ($7) that it completed, and whose answer nobody read, is heard now. Not the
-- one that this round asked for after such a word and failed without: its answer is lost, or more than we take. Its place in
-- the line is a new one, as in `insert`.
WITH ended AS (
    SELECT * FROM generations WHERE id = $1 AND version = $2 AND state IN ('failed', 'cancelled')
),

account AS MATERIALIZED (
    SELECT
        u.user_id,
        ended.type,
        ended.wanted_endpoint,
        limited.held_back,
        CASE WHEN limited.held_back THEN 0
            ELSE least(greatest($5::bigint, 1), $12::bigint) * $11::bigint / p.weight
        END AS vcost
    FROM ended
    INNER JOIN user_billing AS u ON ended.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    CROSS JOIN LATERAL (
        SELECT coalesce(count(*) >= p.max_in_flight, false) AS held_back FROM (
            SELECT FROM generations AS mine
            WHERE p.max_in_flight IS NOT NULL AND mine.user_id = u.user_id AND mine.due_at IS NOT NULL AND NOT mine.held_back
            LIMIT p.max_in_flight
        ) AS on_their_way
    ) AS limited
),

turn AS (
    INSERT INTO queue_ends AS ends (user_id, type, vfinish)
    SELECT account.user_id, account.type, generation_line_start(account.type, account.wanted_endpoint) + account.vcost FROM account
    ON CONFLICT (user_id, type) DO UPDATE SET
        vfinish = greatest(ends.vfinish + (SELECT account.vcost FROM account), excluded.vfinish)
    RETURNING ends.vfinish
),

place AS (
    SELECT turn.vfinish - account.vcost AS vstart, account.held_back FROM account CROSS JOIN turn
),

missed AS (
    SELECT ended.attempt FROM ended
    WHERE
        ended.state = 'failed'
        AND EXISTS (
            SELECT FROM webhook_receipts AS w
            WHERE
                w.generation_id = ended.id
                AND w.attempt = ended.attempt
                AND w.remote_status = 'COMPLETED'
                AND w.received_at <= ended.finished_at
        )
),

completed AS (
    SELECT min(a.attempt) AS attempt FROM ended
    INNER JOIN generation_attempts AS a ON ended.id = a.generation_id
    WHERE
        a.remote_status = 'COMPLETED'
        AND a.remote_id IS NOT NULL
        AND a.lost_at IS NULL
        AND a.attempt NOT IN (SELECT missed.attempt FROM missed)
        AND EXISTS (
            SELECT FROM webhook_receipts AS w
            WHERE
                w.generation_id = a.generation_id
                AND w.attempt = a.attempt
                AND w.remote_status = 'COMPLETED'
                AND w.received_at > coalesce($9::timestamptz, now()) - $7::interval
        )
        AND NOT EXISTS (SELECT FROM generation_results AS r WHERE r.generation_id = ended.id AND r.attempt = a.attempt)
        AND NOT EXISTS (
            SELECT FROM generation_retries AS r WHERE r.generation_id = ended.id AND r.answered_attempt = a.attempt
        )
),

moved AS (
    UPDATE generations AS g SET
        state = 'reserved',
        hold_id = $3,
        price_version = $4,
        quoted = $5,
        charged = NULL,
        retries = g.retries + 1,
        retried_at = coalesce($9::timestamptz, now()),
        earlier_attempts = (
            SELECT coalesce(max(a.attempt), 0) FROM generation_attempts AS a WHERE a.generation_id = g.id
        ),
        attempt = 0,
        heard_attempt = completed.attempt,
        endpoint = NULL,
        endpoint_id = NULL,
        remote_id = NULL,
        progress = NULL,
        error_code = NULL,
        error_detail = NULL,
        delay_ms = NULL,
        execution_ms = NULL,
        cancel_requested_at = NULL,
        lease_token = NULL,
        vstart = place.vstart,
        held_back = place.held_back,
        due_at = coalesce($9::timestamptz, now())
            + CASE WHEN place.held_back AND completed.attempt IS NULL THEN $13::interval ELSE interval '0' END,
        deadline_at = coalesce($9::timestamptz, now())
            + CASE WHEN place.held_back THEN $13::interval ELSE $6::interval END,
        submitted_at = NULL,
        started_at = NULL,
        finished_at = NULL,
        transitioned_at = coalesce($9::timestamptz, now()),
        transition_actor = $10,
        transition_reason = 'retried',
        transition_detail = jsonb_build_object('round', g.retries + 2)
    FROM ended CROSS JOIN completed CROSS JOIN place
    WHERE g.id = ended.id AND g.version = $2
    RETURNING g.*
),

answered AS (
    DELETE FROM generation_results AS r USING moved
    WHERE r.generation_id = moved.id
    RETURNING r.attempt, r.remote_status, r.body
),

kept AS (
    INSERT INTO generation_retries (
        generation_id, round, hold_id, state, error_code, error_detail, endpoint, finished_at, retried_at, retried_by,
        answered_attempt, remote_status, answer
    )
    SELECT
        moved.id, moved.retries, ended.hold_id, ended.state, ended.error_code, ended.error_detail, ended.endpoint,
        ended.finished_at, moved.retried_at, $8, coalesce(answered.attempt, missed.attempt), answered.remote_status,
        substring(answered.body FROM 1 FOR 4096)
    FROM moved INNER JOIN ended ON moved.id = ended.id LEFT JOIN answered ON true LEFT JOIN missed ON true
)

SELECT * FROM moved;

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
-- that is not pursued any more counts only when it completed; the call of a newer one is left to end by itself. One of
-- an earlier round, too: it was refunded, and is paid by the hold of this one; unless its answer was read already, or was
-- lost. Saying an end again fences nobody: an address that leaked, and is called for ever, must not keep a generation from
-- its end.
UPDATE generations AS g SET
    heard_attempt = $2,
    due_at = CASE
        WHEN (g.state = 'submitting' AND $2 < g.attempt) OR (said.again AND g.lease_token IS NOT NULL) THEN g.due_at
        ELSE coalesce($3::timestamptz, now())
    END,
    lease_token = CASE WHEN g.state = 'submitting' OR said.again THEN g.lease_token END
FROM (
    SELECT EXISTS (
        SELECT FROM generation_attempts AS a
        INNER JOIN generations AS before ON a.generation_id = before.id AND a.attempt = before.heard_attempt
        WHERE a.generation_id = $1 AND a.attempt = $2 AND a.remote_status IS NOT NULL
    ) AS again
) AS said
WHERE
    g.id = $1
    AND g.state IN ('reserved', 'submitting', 'submitted', 'running')
    AND (
        (
            $2 = g.attempt
            AND g.heard_attempt IS NULL
            AND NOT (
                g.state = 'reserved'
                AND EXISTS (
                    SELECT FROM generation_attempts AS a
                    WHERE a.generation_id = g.id AND a.attempt = $2 AND a.outcome = 'recalled'
                )
            )
        )
        OR (
            $4
            AND $2 <= greatest(g.attempt, g.earlier_attempts)
            AND NOT EXISTS (
                SELECT FROM generation_retries AS r WHERE r.generation_id = g.id AND r.answered_attempt = $2
            )
            AND NOT EXISTS (
                SELECT FROM generation_attempts AS a
                WHERE a.generation_id = g.id AND a.attempt = $2 AND a.lost_at IS NOT NULL
            )
        )
    )
RETURNING g.*;
