-- Who lives, and who has which share. Beats come one after the other (the lock), so that shares never add up to more
-- than 1. `now` is NULL in production.

-- name: lock
SELECT pg_advisory_xact_lock(hashtext('twin.workers'));

-- name: others
SELECT count(*) AS workers, coalesce(sum(share), 0) AS share FROM workers
WHERE worker_id <> $1 AND seen_at > coalesce($3::timestamptz, now()) - $2::interval;

-- name: beat
-- it keeps its number; who comes new has the first that is free
INSERT INTO workers AS w (worker_id, share, number, started_at, seen_at, recalls)
SELECT $1, $2, min(free.number), coalesce($3::timestamptz, now()), coalesce($3::timestamptz, now()), true
FROM generate_series(0, (SELECT count(*) FROM workers)) AS free (number)
WHERE free.number NOT IN (SELECT taken.number FROM workers AS taken WHERE taken.number IS NOT NULL)
ON CONFLICT (worker_id) DO UPDATE SET
    share = excluded.share,
    number = coalesce(w.number, excluded.number),
    seen_at = excluded.seen_at
RETURNING w.number;

-- name: bury
DELETE FROM workers WHERE seen_at <= coalesce($2::timestamptz, now()) - $1::interval;

-- name: leave
DELETE FROM workers WHERE worker_id = $1;
