-- name: terms
-- a person's terms as they count: their own, else their plan's; of somebody new, those that their account would have
SELECT
    plans.plan,
    coalesce(accounts.policy, plans.policy)::text AS policy,
    coalesce(accounts.low_balance_threshold, plans.low_balance_threshold) AS low_balance_threshold,
    coalesce(accounts.time_zone, 'UTC') AS time_zone
FROM (SELECT $1::text AS user_id) AS person
LEFT JOIN user_billing AS accounts ON accounts.user_id = person.user_id
INNER JOIN credit_plans AS plans ON plans.plan = coalesce(accounts.plan, 'free');
