-- name: hold_of_generation
-- of its rounds only the last one can have been charged
SELECT hold_id, user_id FROM credit_holds WHERE generation_id = $1 ORDER BY round DESC LIMIT 1;
