-- name: changed
-- a page of what changed after a place, oldest change first. No generation outlives $4, so the history index bounds the
-- look.
SELECT g.*, h.price, greatest(g.transitioned_at, g.cancel_requested_at) AS changed_at FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE
    g.user_id = $1
    AND g.deleted_at IS NULL
    AND g.created_at >= $2::timestamptz - $4::interval
    AND (greatest(g.transitioned_at, g.cancel_requested_at), g.id) > ($2, $3::uuid)
ORDER BY changed_at, g.id
LIMIT $5;

-- name: sent
-- what is at RunPod, newest first: its progress and the time that it takes still move without a time of their own
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.user_id = $1 AND g.created_at >= now() - $2::interval AND g.state IN ('submitted', 'running')
ORDER BY g.created_at DESC, g.id DESC
LIMIT $3;

-- name: waiting
-- what waits, in the order in which it is sent: its place in line moves without a time of its own
SELECT g.*, h.price FROM (
    SELECT * FROM generations AS mine
    WHERE mine.user_id = $1 AND mine.due_at IS NOT NULL AND mine.state = 'reserved'
    ORDER BY mine.held_back, mine.vstart, mine.id
    LIMIT $2
) AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id;
