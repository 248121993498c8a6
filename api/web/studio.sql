-- name: time_zone
SELECT time_zone FROM user_billing WHERE user_id = $1;

-- name: pictures
-- a person's newest pictures, for choosing one to modify
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.user_id = $1 AND g.type IN ('image', 'modify') AND g.state = 'completed'
ORDER BY g.created_at DESC, g.id DESC
LIMIT $2;

-- name: picture
-- one of a person's finished pictures, by an id that somebody typed
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE
    g.user_id = $1
    AND g.id = CASE WHEN $2::text ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN $2::uuid END
    AND g.type IN ('image', 'modify') AND g.state = 'completed';
