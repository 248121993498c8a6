-- Who lives, and who has which share. Beats come one after the other (the lock), so that shares never add up to more
-- than 1. `now` is NULL in production.

-- name: lock
SELECT pg_advisory_xact_lock(hashtext('twin.workers'));

-- name: others
SELECT count(*) AS workers, coalesce(sum(share), 0) AS share FROM workers
WHERE worker_id <> $1 AND seen_at > coalesce($3::timestamptz, now()) - $2::interval;

-- name: beat
INSERT INTO workers (worker_id, share, started_at, seen_at)
VALUES ($1, $2, coalesce($3::timestamptz, now()), coalesce($3::timestamptz, now()))
ON CONFLICT (worker_id) DO UPDATE SET share = excluded.share, seen_at = excluded.seen_at;

-- name: bury
DELETE FROM workers WHERE seen_at <= coalesce($2::timestamptz, now()) - $1::interval;

-- name: leave
DELETE FROM workers WHERE worker_id = $1;
