-- name: agreed_cost
SELECT price FROM credit_holds WHERE hold_id = $1;
