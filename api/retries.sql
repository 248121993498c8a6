-- name: agreed_price
SELECT price FROM credit_holds WHERE hold_id = $1;
