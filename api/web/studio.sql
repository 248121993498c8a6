-- name: time_zone
SELECT time_zone FROM user_billing WHERE user_id = $1;

-- name: picture
-- one of a person's finished pictures
SELECT g.*, h.price FROM generations AS g
INNER JOIN credit_holds AS h ON g.hold_id = h.hold_id
WHERE g.user_id = $1 AND g.id = $2 AND g.deleted_at IS NULL AND g.type IN ('image', 'modify') AND g.state = 'completed';

-- name: deleted
SELECT id, prompt FROM generations WHERE user_id = $1 AND id = $2 AND deleted_at IS NOT NULL AND purging_at IS NULL;
