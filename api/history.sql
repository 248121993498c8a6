-- name: with_price
-- a person's generation with the price that its hold keeps
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.id = $1 AND g.user_id = $2 AND g.deleted_at IS NULL;

-- name: page
-- newest first, after the place that the cursor names; one more than the page, to know whether there is more
-- Each type by itself through its index: a person with many texts and few videos finds the videos as fast. By its name,
-- which an index can find under a policy, too (see the migration).
SELECT g.*, h.price FROM (
    SELECT one_type.* FROM unnest($2::text[]) AS wanted (type)
    CROSS JOIN LATERAL (
        SELECT * FROM generations AS candidates
        WHERE
            candidates.user_id = $1
            AND candidates.deleted_at IS NULL
            AND candidates.type_name = wanted.type
            AND (cardinality($3::text[]) = 0 OR candidates.state::text = ANY($3))
            AND (candidates.created_at, candidates.id)
            < (coalesce($4::timestamptz, 'infinity'), coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        ORDER BY candidates.created_at DESC, candidates.id DESC
        LIMIT $6
    ) AS one_type
    ORDER BY one_type.created_at DESC, one_type.id DESC
    LIMIT $6
) AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
ORDER BY g.created_at DESC, g.id DESC;

-- name: open_ones
SELECT * FROM generations
WHERE user_id = $1 AND due_at IS NOT NULL
ORDER BY held_back, vstart, id
LIMIT $2;

-- name: transitions
SELECT version, from_state, to_state, at, actor, reason FROM generation_transitions
WHERE generation_id = $1 AND user_id = $2 AND version > $3
ORDER BY version
LIMIT $4;

-- name: happenings
-- transitions and chunks in their one order, after a place in it; a transition comes before the chunks of its version
SELECT version, 0 AS seq, from_state, to_state, at, actor, reason, NULL AS text, false AS replaces
FROM generation_transitions
WHERE generation_id = $1 AND user_id = $2 AND version > $3
UNION ALL
SELECT version, seq, NULL, NULL, at, NULL, NULL, text, replaces
FROM generation_chunks
WHERE generation_id = $1 AND user_id = $2 AND (version, seq) > ($3, $4::integer)
ORDER BY version, seq
LIMIT $5;

-- name: last_chunk
SELECT version, seq FROM generation_chunks
WHERE generation_id = $1 AND user_id = $2
ORDER BY version DESC, seq DESC
LIMIT 1;

-- name: by_client_reference
SELECT id FROM generations WHERE user_id = $1 AND client_reference = $2;
