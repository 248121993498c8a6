-- name: open_states
-- Only what is open, by the partial indexes: what has ended is in the rollups.
SELECT state, count(*) AS generations FROM generations
WHERE state IN ('reserved', 'submitting', 'submitted', 'running', 'finishing')
GROUP BY state;

-- name: waiting
-- who has stood in line longest, since they joined it ($1: for how long one may), and how many open rows nobody took for a
-- minute. Who stands in line waits for a place at an endpoint; what is held back waits for its person's own.
SELECT
    (
        SELECT extract(EPOCH FROM now() - (min(deadline_at) - $1::interval)) FROM generations
        WHERE state = 'reserved' AND NOT held_back
    )::double precision AS oldest_seconds,
    (
        SELECT count(*) FROM generations
        WHERE
            state IN ('reserved', 'submitting', 'submitted', 'running', 'finishing')
            AND due_at < now() - interval '1 minute'
            AND (state <> 'reserved' OR cancel_requested_at IS NOT NULL OR heard_attempt IS NOT NULL)
    ) AS stuck;

-- name: open_holds
-- through the accounts that have any, as the ledger's own sweep finds them: holds have no index on their state
SELECT count(*) FROM user_billing AS u
INNER JOIN credit_holds AS h ON u.user_id = h.user_id AND h.expires_at >= u.holds_due_at
WHERE u.holds_due_at IS NOT NULL AND h.state = 'open';
