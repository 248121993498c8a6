-- The database's clock ran ahead and was put right. No moment lies further ahead than what is ever written there; what
-- does is brought back to that, so that nothing stands still for as long as the clock was wrong. `now` is NULL in
-- production.

-- name: allowances
-- $2: how far the clock of one transaction may be behind another's; $3: the longest that RunPod shuts a door for.
-- Tokens stay as they are: a clock that goes back and forth gives nothing twice.
UPDATE endpoint_allowances SET
    refilled_at = least(refilled_at, coalesce($1::timestamptz, now()) + $2::interval),
    overflowed_at = CASE
        WHEN overflowed_at IS NOT NULL THEN least(overflowed_at, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    slowed_at = CASE
        WHEN slowed_at IS NOT NULL THEN least(slowed_at, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    closed_until = CASE
        WHEN closed_until IS NOT NULL THEN least(closed_until, coalesce($1::timestamptz, now()) + $3::interval)
    END
WHERE
    refilled_at > coalesce($1::timestamptz, now()) + $2::interval
    OR slowed_at > coalesce($1::timestamptz, now()) + $2::interval
    OR closed_until > coalesce($1::timestamptz, now()) + $3::interval;

-- name: breakers
-- $2 as above; $3: the longest that a breaker stays open; $4: a lease; $5: how often an endpoint is asked how it is
UPDATE endpoint_states SET
    failing_since = CASE
        WHEN failing_since IS NOT NULL THEN least(failing_since, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    retry_at = CASE
        WHEN retry_at IS NOT NULL THEN least(retry_at, coalesce($1::timestamptz, now()) + $3::interval)
    END,
    probe_until = CASE
        WHEN probe_until IS NOT NULL THEN least(probe_until, coalesce($1::timestamptz, now()) + $4::interval)
    END,
    sampled_at = CASE
        WHEN sampled_at IS NOT NULL THEN least(sampled_at, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    out_since = CASE
        WHEN out_since IS NOT NULL THEN least(out_since, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    learnt_at = CASE
        WHEN learnt_at IS NOT NULL THEN least(learnt_at, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    health_asked_at = CASE
        WHEN health_asked_at IS NOT NULL THEN least(health_asked_at, coalesce($1::timestamptz, now()) + $2::interval)
    END,
    sample_due_at = least(sample_due_at, coalesce($1::timestamptz, now()) + $5::interval)
WHERE
    failing_since > coalesce($1::timestamptz, now()) + $2::interval
    OR retry_at > coalesce($1::timestamptz, now()) + $3::interval
    OR probe_until > coalesce($1::timestamptz, now()) + $4::interval
    OR sampled_at > coalesce($1::timestamptz, now()) + $2::interval
    OR learnt_at > coalesce($1::timestamptz, now()) + $2::interval
    OR health_asked_at > coalesce($1::timestamptz, now()) + $2::interval
    OR sample_due_at > coalesce($1::timestamptz, now()) + $5::interval;

-- name: workers
-- who lives says so again within the lease; the share of who does not is free after it
UPDATE workers SET seen_at = coalesce($1::timestamptz, now()) + $2::interval
WHERE seen_at > coalesce($1::timestamptz, now()) + $2::interval;

-- name: generations
-- $2: the longest that anything but what is held back waits for its next turn; state by state, each by its own index
UPDATE generations SET due_at = coalesce($1::timestamptz, now()) + $2::interval
WHERE id IN (
    SELECT id FROM generations
    WHERE state = 'reserved' AND NOT held_back AND due_at > coalesce($1::timestamptz, now()) + $2::interval
    UNION ALL
    SELECT id FROM generations
    WHERE state = 'submitting' AND due_at > coalesce($1::timestamptz, now()) + $2::interval
    UNION ALL
    SELECT g.id FROM endpoint_states AS e
    INNER JOIN generations AS g ON e.endpoint_id = g.endpoint_id
    WHERE g.state IN ('submitted', 'running') AND g.due_at > coalesce($1::timestamptz, now()) + $2::interval
    UNION ALL
    SELECT id FROM generations
    WHERE state = 'finishing' AND due_at > coalesce($1::timestamptz, now()) + $2::interval
);

-- name: deadlines
-- $2: for how long one may stand in line; $3: for how long one may be held back, and it is due when that is over. The
-- deadlines of what was sent are its endpoint's own.
UPDATE generations SET
    deadline_at = coalesce($1::timestamptz, now()) + CASE WHEN held_back THEN $3::interval ELSE $2::interval END,
    due_at = CASE
        WHEN held_back AND due_at = deadline_at THEN coalesce($1::timestamptz, now()) + $3::interval ELSE due_at
    END
WHERE
    state = 'reserved'
    AND deadline_at > coalesce($1::timestamptz, now()) + $2::interval
    AND (NOT held_back OR deadline_at > coalesce($1::timestamptz, now()) + $3::interval);

-- name: orphans
-- $2 as above; $3: for how long they are asked for at all. Every try waits half as long as it was lost before, 5 s at least
-- (worker/sweep.sql).
UPDATE generation_attempts SET
    orphaned_at = least(orphaned_at, coalesce($1::timestamptz, now()) + $2::interval),
    orphan_due_at = CASE
        WHEN orphan_due_at IS NOT NULL THEN least(
            orphan_due_at,
            coalesce($1::timestamptz, now()) + $2::interval
            + greatest(interval '5 seconds', (coalesce($1::timestamptz, now()) - orphaned_at) / 2)
        )
    END
WHERE
    orphaned_at > coalesce($1::timestamptz, now()) - $3::interval
    AND orphan_cancelled_at IS NULL
    AND remote_id IS NOT NULL
    AND (
        orphaned_at > coalesce($1::timestamptz, now()) + $2::interval
        OR orphan_due_at > coalesce($1::timestamptz, now()) + $2::interval
        + greatest(interval '5 seconds', (coalesce($1::timestamptz, now()) - orphaned_at) / 2)
    );

-- name: streams
UPDATE generation_streams SET due_at = coalesce($1::timestamptz, now()) + $2::interval
WHERE due_at > coalesce($1::timestamptz, now()) + $2::interval;
