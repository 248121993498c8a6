-- Answers are read as text, as in ledger.sql.

-- name: set_terms
SELECT ledger_set_terms($1, $2, $3::text::jsonb, $4, $5, $6)::text;

-- name: set_plan
SELECT ledger_set_plan($1, $2, $3::text::jsonb, $4, $5, $6)::text;

-- name: set_time_zone
SELECT ledger_set_time_zone($1, $2, $3, $4)::text;

-- name: plans
SELECT plan, daily_credits, policy::text, overdraft_limit, low_balance_threshold, weight, max_in_flight
FROM credit_plans ORDER BY plan;

-- name: terms
SELECT plan, policy::text, overdraft_limit, low_balance_threshold, time_zone FROM user_billing WHERE user_id = $1;
