-- name: line
-- the head of a type's line, in the order in which it will be sent; whoever is not in it has at least that many ahead
SELECT vstart, id, wanted_endpoint FROM generations
WHERE state = 'reserved' AND NOT held_back AND type = $1::text::generation_type
ORDER BY vstart, id
LIMIT $2;

-- name: clock
SELECT vtime FROM queue_clock WHERE type = $1::text::generation_type;

-- name: further
-- every so many-th ($3) of a long line ($2: no more of it is read)
SELECT vstart, id FROM (
    SELECT vstart, id, row_number() OVER (ORDER BY vstart, id) AS number FROM generations
    WHERE state = 'reserved' AND NOT held_back AND type = $1::text::generation_type
    ORDER BY vstart, id
    LIMIT $2
) AS line
WHERE number % $3::bigint = 0
ORDER BY vstart, id;

-- name: max_in_flight
SELECT p.max_in_flight FROM user_billing AS u INNER JOIN credit_plans AS p ON u.plan = p.plan WHERE u.user_id = $1;

-- name: own
-- what a person has on its way
SELECT id, type::text AS type, state::text AS state, wanted_endpoint, endpoint, submitted_at, vstart, held_back
FROM generations
WHERE user_id = $1 AND due_at IS NOT NULL AND NOT held_back
ORDER BY vstart, id
LIMIT $2;

-- name: held_back
-- what waits for that, in the order in which it is let in
SELECT id, type::text AS type, state::text AS state, wanted_endpoint, endpoint, submitted_at, vstart, held_back
FROM generations
WHERE user_id = $1 AND held_back
ORDER BY deadline_at, id
LIMIT $2;
