-- Answers are read as text, so they are the same with and without a JSON codec on the connection.

-- name: open_account
SELECT ledger_open_account($1, $2::text::credit_policy, $3, $4, $5, $6);

-- name: grant
SELECT ledger_grant($1, $2, $3, $4::text::credit_bucket_kind, $5, $6, $7, $8, $9, $10, $11, $12)::text;

-- name: reserve
SELECT ledger_reserve($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8)::text;

-- name: capture
SELECT ledger_capture($1, $2, $3, $4)::text;

-- name: release
SELECT ledger_release($1, $2, $3, $4)::text;

-- name: expire
SELECT ledger_expire($1, $2)::text;

-- name: expire_due
SELECT ledger_expire_due($1, $2)::text;

-- name: balance
SELECT ledger_balance($1, $2)::text;

-- name: decide
SELECT ledger_decide($1, $2, $3)::text;

-- name: buckets
SELECT bucket_id, kind::text, priority, granted, remaining, held, effective_at, expires_at, source_ref
FROM credit_buckets
WHERE user_id = $1 AND live
    AND (held > 0 OR expires_at IS NULL OR expires_at > coalesce($2::timestamptz, clock_timestamp()))
ORDER BY priority, expires_at NULLS LAST, credit_buckets.kind, effective_at, bucket_id;

-- name: refresh
SELECT ledger_refresh($1, $2);

-- name: books_at
SELECT ledger_books_at($1, $2)::text;

-- name: crossings
SELECT warning_id, code, available, at FROM credit_warnings
WHERE user_id = $1 AND warning_id > $2 ORDER BY warning_id LIMIT $3;
