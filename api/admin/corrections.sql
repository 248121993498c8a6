-- name: hold_of_generation
SELECT hold_id, user_id FROM credit_holds WHERE generation_id = $1;
