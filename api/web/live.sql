-- name: changed
-- what changed since; what runs is always among it, for its progress has no time. No generation outlives $3, so the
-- history index bounds the look.
SELECT g.*, h.price, greatest(g.transitioned_at, g.cancel_requested_at) AS changed_at FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE
    g.user_id = $1
    AND g.created_at >= $2::timestamptz - $3::interval
    AND (g.transitioned_at >= $2 OR g.cancel_requested_at >= $2 OR g.state = 'running')
ORDER BY changed_at
LIMIT $4;
