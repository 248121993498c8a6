-- Answers are read as text, as in ledger.sql.

-- name: adjust
SELECT ledger_adjust($1, $2, $3, $4, $5, $6, $7)::text;

-- name: reverse_grant
SELECT ledger_reverse_grant($1, $2::text::credit_bucket_kind, $3, $4, $5, $6, $7)::text;

-- name: reverse_charge
SELECT ledger_reverse_charge($1, $2, $3, $4, $5)::text;
