-- name: attempt_outcome
SELECT outcome FROM generation_attempts WHERE generation_id = $1 AND attempt = $2;

-- name: attempts_maybe_sent
-- in the round that is on
SELECT count(*) FROM generation_attempts AS a
INNER JOIN generations AS g ON a.generation_id = g.id AND a.attempt > g.earlier_attempts
WHERE a.generation_id = $1 AND a.outcome IN ('calling', 'accepted', 'unknown');

-- name: claim_orphans
-- only those whose id we know: a job that RunPod never named to us cannot be cancelled. By an index that has no others,
-- and of the last day alone.
UPDATE generation_attempts AS a SET
    orphan_due_at = now() + greatest(interval '5 seconds', (now() - a.orphaned_at) / 2)
FROM (
    SELECT generation_id, attempt FROM generation_attempts
    WHERE
        orphaned_at IS NOT NULL
        AND orphan_cancelled_at IS NULL
        AND remote_id IS NOT NULL
        AND coalesce(orphan_due_at, orphaned_at) <= now()
        AND orphaned_at > now() - $2::interval
    ORDER BY coalesce(orphan_due_at, orphaned_at)
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) AS due
WHERE a.generation_id = due.generation_id AND a.attempt = due.attempt
RETURNING a.generation_id, a.attempt, a.endpoint_id, a.remote_id, now() - a.started_at AS age;

-- name: orphans_told
-- $3: which had completed before. No other state is kept: RunPod contradicts itself, and a webhook may know better.
UPDATE generation_attempts AS a SET
    orphan_cancelled_at = now(),
    remote_status = CASE WHEN told.completed THEN coalesce(a.remote_status, 'COMPLETED') ELSE a.remote_status END
FROM unnest($1::uuid[], $2::integer[], $3::boolean[]) AS told (generation_id, attempt, completed)
WHERE a.generation_id = told.generation_id AND a.attempt = told.attempt;

-- name: prune_keys
DELETE FROM idempotency_keys WHERE ctid IN (
    SELECT ctid FROM idempotency_keys WHERE created_at < now() - interval '30 days' LIMIT $1
);

-- name: prune_changes
DELETE FROM endpoint_changes WHERE change_id IN (
    SELECT change_id FROM endpoint_changes WHERE at < now() - interval '30 days' ORDER BY at LIMIT $1
);

-- name: prune_receipts
DELETE FROM webhook_receipts WHERE receipt_id IN (
    SELECT receipt_id FROM webhook_receipts WHERE received_at < now() - interval '90 days' ORDER BY receipt_id LIMIT $1
);

-- name: prune_results
DELETE FROM generation_results WHERE generation_id IN (
    SELECT r.generation_id FROM generation_results AS r
    INNER JOIN generations AS g ON r.generation_id = g.id
    WHERE r.received_at < now() - interval '90 days' AND generation_is_terminal(g.state)
    LIMIT $1
);

-- name: prune_answers
UPDATE generation_retries SET answer = NULL WHERE (generation_id, round) IN (
    SELECT r.generation_id, r.round FROM generation_retries AS r
    WHERE r.retried_at < now() - interval '90 days' AND r.answer IS NOT NULL
    LIMIT $1
);

-- name: prune_streams
-- the chunks go with their stream; what was settled is with the generation
DELETE FROM generation_streams WHERE ctid IN (
    SELECT s.ctid FROM generation_streams AS s
    INNER JOIN generations AS g ON s.generation_id = g.id
    WHERE s.ended_at < now() - interval '1 day' AND g.finished_at < now() - interval '1 day'
    LIMIT $1
);

-- name: stranded
-- who has something held back, and less on its way than their plan allows: they were passed over, or it allows more now
SELECT held.user_id FROM (SELECT DISTINCT g.user_id FROM generations AS g WHERE g.held_back) AS held
INNER JOIN user_billing AS u ON held.user_id = u.user_id
INNER JOIN credit_plans AS p ON u.plan = p.plan
WHERE
    p.max_in_flight IS NULL
    OR p.max_in_flight > (
        SELECT count(*) FROM (
            SELECT FROM generations AS mine
            WHERE mine.user_id = held.user_id AND mine.due_at IS NOT NULL AND NOT mine.held_back
            LIMIT p.max_in_flight
        ) AS on_their_way
    )
LIMIT $1;

-- name: lock_account
SELECT FROM user_billing WHERE user_id = $1 FOR NO KEY UPDATE;

-- name: rest_lines
-- Where nobody is on their way everybody begins anew: what somebody used while no other wanted it is not held against them
-- when a crowd comes the day after.
-- A claim that has a row is not waited for, nor made to wait: the next round is soon.
WITH idle AS (
    SELECT met.endpoint_id, met.type FROM queue_meetings AS met
    WHERE NOT EXISTS (SELECT FROM generations AS g WHERE g.due_at IS NOT NULL AND g.type = met.type)
    FOR UPDATE OF met SKIP LOCKED
),

parted AS (
    DELETE FROM queue_meetings AS met USING idle WHERE met.endpoint_id = idle.endpoint_id AND met.type = idle.type
)

UPDATE queue_clock AS line SET vtime = greatest(line.vtime, (
    SELECT max(ends.vfinish) FROM queue_ends AS ends WHERE ends.type = line.type
))
WHERE
    NOT EXISTS (SELECT FROM generations AS g WHERE g.due_at IS NOT NULL AND g.type = line.type)
    AND EXISTS (SELECT FROM queue_ends AS ends WHERE ends.type = line.type AND ends.vfinish > line.vtime);
