-- Which attempt of a generation is pursued. Guards compare id, state, version and lease token. `now` is NULL in production.

-- name: adopt
-- The webhook handler, or a submit that came late, has put RunPod's id on the attempt. From reserved too: it may be
-- heard of during the wait before the next attempt. The others are no orphans until its answer is here: they are what
-- remains if that is lost.
WITH known AS (
    SELECT a.generation_id, a.attempt, a.endpoint, a.endpoint_id, a.remote_id
    FROM generation_attempts AS a
    INNER JOIN generations AS g ON a.generation_id = g.id AND a.attempt = g.heard_attempt
    WHERE g.id = $1 AND a.remote_id IS NOT NULL
),

moved AS (
    UPDATE generations AS g SET
        state = 'submitted',
        attempt = known.attempt,
        endpoint = known.endpoint,
        endpoint_id = known.endpoint_id,
        remote_id = known.remote_id,
        submitted_at = coalesce($4::timestamptz, now()),
        held_back = false,
        lease_token = NULL,
        due_at = coalesce($4::timestamptz, now()),
        deadline_at = coalesce($4::timestamptz, now()) + $3::interval,
        transitioned_at = coalesce($4::timestamptz, now()),
        transition_actor = 'worker/sweep',
        transition_reason = 'adopted',
        transition_detail = jsonb_build_object('remote_id', known.remote_id, 'attempt', known.attempt)
    FROM known
    WHERE g.id = $1 AND g.state IN ('reserved', 'submitting') AND g.version = $2
    RETURNING g.*
),

attempted AS (
    UPDATE generation_attempts AS a SET
        outcome = CASE WHEN a.outcome = 'recalled' THEN a.outcome ELSE 'accepted' END,
        orphaned_at = NULL,
        orphan_cancelled_at = NULL
    FROM moved WHERE a.generation_id = moved.id AND a.attempt = moved.attempt
)

SELECT * FROM moved;

-- name: heed_earlier_attempt
-- An attempt that we had given up has completed after all, and its webhook says so: pursue that one, the first to end.
-- The attempt we were pursuing goes on until its answer is here: turn_to_another. Anything but COMPLETED is no reason to turn
-- back. It may be of an earlier round: what was refunded then is paid by the hold of this one.
WITH heard AS (
    SELECT g.id, a.attempt, a.endpoint, a.endpoint_id, a.remote_id
    FROM generations AS g
    LEFT JOIN generation_attempts AS a
        ON
            g.id = a.generation_id
            AND g.heard_attempt = a.attempt
            AND a.remote_id IS NOT NULL
            AND a.remote_status = 'COMPLETED'
    WHERE
        g.id = any($2::uuid[])
        AND g.lease_token = $1
        AND g.heard_attempt < g.attempt
        AND g.state IN ('submitted', 'running')
),

turned AS (
    UPDATE generations AS g SET
        attempt = coalesce(heard.attempt, g.attempt),
        endpoint = coalesce(heard.endpoint, g.endpoint),
        endpoint_id = coalesce(heard.endpoint_id, g.endpoint_id),
        remote_id = coalesce(heard.remote_id, g.remote_id),
        heard_attempt = heard.attempt,
        transitioned_at = CASE WHEN heard.attempt IS NULL THEN g.transitioned_at ELSE now() END,
        transition_actor = CASE WHEN heard.attempt IS NULL THEN g.transition_actor ELSE 'worker/poll' END,
        transition_reason = CASE WHEN heard.attempt IS NULL THEN g.transition_reason ELSE 'earlier-attempt' END,
        transition_detail = CASE
            WHEN heard.attempt IS NULL THEN g.transition_detail
            ELSE jsonb_build_object('before', g.attempt, 'attempt', heard.attempt)
        END
    FROM heard
    WHERE g.id = heard.id AND g.lease_token = $1
    RETURNING g.*
),

attempted AS (
    UPDATE generation_attempts AS a SET orphaned_at = NULL
    FROM turned WHERE a.generation_id = turned.id AND a.attempt = turned.heard_attempt
)

SELECT * FROM turned;

-- name: hold_attempts
-- The statement before turn_to_another. A word that is being written down is waited for, so that the next statement sees it;
-- whoever has another one waits for our commit, and finds what came of this. The generation first, as everybody does.
WITH held AS MATERIALIZED (
    SELECT id FROM generations WHERE id = $1 AND version = $2 AND lease_token = $3
    FOR NO KEY UPDATE
)

SELECT FROM held INNER JOIN generation_attempts AS a ON held.id = a.generation_id
ORDER BY a.attempt
FOR NO KEY UPDATE OF a;

-- name: turn_to_another
-- The attempt that is pursued is given up ($4), or gives us nothing for now: another may have a result. Pursue that, one
-- that is said to have completed before one that may still run. Not one of those that are about to be cancelled; but
-- what became an orphan in this round, when the one that is given up seemed to have the result, is none while its cancel
-- is not answered. What is given up for good is lost, no word of it counts any more, unless its own word says that it has
-- none; what may still end there ($7) is an orphan, and is not turned to again for the same reason: they would take turns.
-- The generation is submitted again, with a deadline of its own ($8: by endpoint), unless the one before was over: what is
-- not there by then is not waited for. For now: one that is said to have completed, and the state stays what it is.
-- Nothing for whoever has cancelled. No row: there is none.
WITH held AS (
    SELECT id, attempt, earlier_attempts FROM generations
    WHERE
        id = $1
        AND state IN ('submitted', 'running', 'finishing')
        AND version = $2
        AND lease_token = $3
        AND cancel_requested_at IS NULL
    FOR NO KEY UPDATE
),

other AS (
    SELECT a.attempt, a.endpoint, a.endpoint_id, a.remote_id, a.remote_status, a.started_at
    FROM held INNER JOIN generation_attempts AS a ON held.id = a.generation_id AND held.attempt <> a.attempt
    WHERE
        a.remote_id IS NOT NULL
        AND a.lost_at IS NULL
        AND (
            (a.remote_status = 'COMPLETED' AND NOT ($7 AND a.orphaned_at IS NOT NULL))
            OR (
                $4
                AND a.remote_status IS NULL
                AND (
                    a.orphaned_at IS NULL
                    OR (NOT $7 AND a.attempt > held.earlier_attempts AND a.orphan_cancelled_at IS NULL)
                )
            )
        )
        AND NOT EXISTS (
            SELECT FROM generation_retries AS r WHERE r.generation_id = held.id AND r.answered_attempt = a.attempt
        )
    ORDER BY a.remote_status, a.attempt DESC
    LIMIT 1
),

attempted AS (
    UPDATE generation_attempts AS a SET
        lost_at = CASE
            WHEN $4 AND NOT $7 AND a.attempt = held.attempt AND coalesce(a.remote_status, 'COMPLETED') = 'COMPLETED'
                THEN coalesce($6::timestamptz, now())
        END,
        orphaned_at = CASE
            WHEN a.attempt <> held.attempt THEN NULL
            WHEN $7 THEN coalesce(a.orphaned_at, $6::timestamptz, now())
            ELSE a.orphaned_at
        END
    FROM held LEFT JOIN other ON true
    WHERE a.generation_id = held.id AND a.attempt IN (held.attempt, other.attempt)
)

UPDATE generations AS g SET
    state = CASE WHEN $4 THEN 'submitted' ELSE g.state END,
    attempt = other.attempt,
    endpoint = other.endpoint,
    endpoint_id = other.endpoint_id,
    remote_id = other.remote_id,
    heard_attempt = CASE WHEN other.remote_status IS NOT NULL THEN other.attempt END,
    submitted_at = CASE WHEN $4 THEN other.started_at ELSE g.submitted_at END,
    started_at = CASE WHEN NOT $4 THEN g.started_at END,
    progress = NULL,
    lease_token = NULL,
    due_at = coalesce($6::timestamptz, now()) + $5::interval,
    deadline_at = CASE
        WHEN $4 AND g.deadline_at > coalesce($6::timestamptz, now())
            THEN coalesce($6::timestamptz, now()) + coalesce($8::jsonb ->> other.endpoint, $8::jsonb ->> '')::interval
        ELSE g.deadline_at
    END,
    delay_ms = CASE WHEN NOT $4 THEN g.delay_ms END,
    execution_ms = CASE WHEN NOT $4 THEN g.execution_ms END,
    transitioned_at = coalesce($6::timestamptz, now()),
    transition_actor = $9,
    transition_reason = 'another-attempt',
    transition_detail = jsonb_build_object('given_up', g.attempt, 'attempt', other.attempt, 'reason', $10::text)
FROM other
WHERE g.id = $1 AND g.version = $2 AND g.lease_token = $3
RETURNING g.*;

-- name: hear_late
-- A submit was answered after its lease was over: if the attempt is still the one, the sweep adopts it by its id.
UPDATE generations SET heard_attempt = $2, due_at = now(), lease_token = NULL
WHERE id = $1 AND attempt = $2 AND heard_attempt IS NULL AND state IN ('reserved', 'submitting');

-- name: note_remote_id
-- … and if not, it is an orphan that can be cancelled now, unless we turned back to one before it.
UPDATE generation_attempts AS a SET
    remote_id = coalesce(a.remote_id, $3),
    outcome = CASE WHEN a.outcome = 'recalled' THEN a.outcome ELSE 'accepted' END,
    orphaned_at = CASE
        WHEN a.attempt < g.attempt OR (generation_is_terminal(g.state) AND a.remote_status IS NULL)
            THEN coalesce(a.orphaned_at, now())
        ELSE a.orphaned_at
    END
FROM generations AS g
WHERE g.id = a.generation_id AND a.generation_id = $1 AND a.attempt = $2;

-- name: believe_no_more
-- It was recalled before, and a word that it completed all the same was not true: an address that leaked, and is called for
-- ever, must not keep a generation from being sent.
UPDATE generation_attempts SET lost_at = now()
WHERE
    generation_id = $1
    AND attempt = $2
    AND outcome = 'recalled'
    AND EXISTS (SELECT FROM generations AS g WHERE g.id = $1 AND g.version = $3 AND g.lease_token = $4);
