-- name: with_price
-- a person's generation with the price that its hold keeps
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.id = $1 AND g.user_id = $2;

-- name: page
-- newest first, after the place that the cursor names; one more than the page, to know whether there is more
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE
    g.user_id = $1
    AND (cardinality($2::text[]) = 0 OR g.type::text = ANY($2))
    AND (cardinality($3::text[]) = 0 OR g.state::text = ANY($3))
    AND (g.created_at, g.id)
    < (coalesce($4::timestamptz, 'infinity'), coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY g.created_at DESC, g.id DESC
LIMIT $6;

-- name: transitions
SELECT version, from_state, to_state, at, actor, reason FROM generation_transitions
WHERE generation_id = $1 AND version > $2
ORDER BY version
LIMIT $3;

-- name: has_picture
-- whether this is a finished picture of this person
SELECT EXISTS (
    SELECT FROM generations
    WHERE
        id = $1
        AND user_id = $2
        AND state = 'completed'
        AND type IN ('image', 'modify')
        AND outputs @> jsonb_build_array(jsonb_build_object('index', $3::integer))
);

-- name: by_client_reference
SELECT id FROM generations WHERE user_id = $1 AND client_reference = $2;
