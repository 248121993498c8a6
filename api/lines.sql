-- name: span
-- the first and the last entry of an account from one moment to before another; the last is before the first when
-- there are none between
SELECT
    ledger_seq_at($1, coalesce($2::timestamptz, '-infinity') - interval '1 microsecond') + 1 AS first,
    ledger_seq_at($1, coalesce($3::timestamptz, 'infinity') - interval '1 microsecond') AS last;

-- name: standing
-- what an account came to after an entry
SELECT posted_after - overdraft_used_after AS balance, held_after + overdraft_held_after AS held, at
FROM credit_entries WHERE user_id = $1 AND seq = $2;

-- name: newest
-- entries $2 to $3 that are of these kinds (none: all) and of this generation (NULL: any), newest first
SELECT
    entries.seq, entries.at, entries.kind::text AS kind, entries.from_leg::text AS from_leg,
    entries.to_leg::text AS to_leg, entries.amount,
    entries.posted_after - entries.overdraft_used_after AS balance,
    entries.held_after + entries.overdraft_held_after AS held,
    entries.detail ->> 'reason' AS reason, holds.generation_id, buckets.kind::text AS bucket_kind, buckets.source_ref
FROM credit_entries AS entries
LEFT JOIN credit_holds AS holds ON holds.hold_id = entries.hold_id
LEFT JOIN credit_buckets AS buckets ON buckets.bucket_id = entries.bucket_id
WHERE
    entries.user_id = $1 AND entries.seq BETWEEN $2 AND $3
    AND (cardinality($4::text[]) = 0 OR entries.kind::text = ANY($4))
    AND ($5::uuid IS NULL OR entries.hold_id IN (
        SELECT own.hold_id FROM credit_holds AS own WHERE own.generation_id = $5 AND own.user_id = $1
    ))
ORDER BY entries.seq DESC
LIMIT $6;

-- name: onward
-- entries $2 to $3, oldest first
SELECT
    entries.seq, entries.at, entries.kind::text AS kind, entries.from_leg::text AS from_leg,
    entries.to_leg::text AS to_leg, entries.amount,
    entries.posted_after - entries.overdraft_used_after AS balance,
    entries.held_after + entries.overdraft_held_after AS held,
    entries.detail ->> 'reason' AS reason, holds.generation_id, buckets.kind::text AS bucket_kind, buckets.source_ref
FROM credit_entries AS entries
LEFT JOIN credit_holds AS holds ON holds.hold_id = entries.hold_id
LEFT JOIN credit_buckets AS buckets ON buckets.bucket_id = entries.bucket_id
WHERE entries.user_id = $1 AND entries.seq BETWEEN $2 AND $3
ORDER BY entries.seq
LIMIT $4;
