-- name: abandon
-- Runs whose worker has not been heard of for longer than its lease: nobody will finish them.
UPDATE ledger_verifications
SET finished_at = clock_timestamp(), error = 'whoever ran it went away'
WHERE finished_at IS NULL AND lease_until < clock_timestamp();

-- name: begin
INSERT INTO ledger_verifications (scope, user_id, since, lease_until)
VALUES (CASE WHEN $1::text IS NOT NULL THEN 'account' WHEN $2::timestamptz IS NOT NULL THEN 'since' ELSE 'all' END,
    $1, CASE WHEN $1 IS NULL THEN $2 END, clock_timestamp() + $3::interval)
RETURNING run_id, started_at;

-- name: claim
-- A scheduled run, when none began within $1 and nobody is at one: of everybody when the last one of everybody is older
-- than $2 or was not clean, else of what was touched since the last clean one began, less $3.
INSERT INTO ledger_verifications (scope, since, scheduled, lease_until)
SELECT CASE WHEN w.since IS NULL THEN 'all' ELSE 'since' END, w.since, true, clock_timestamp() + $4::interval
FROM (
    SELECT CASE WHEN f.clean AND f.started_at > clock_timestamp() - $2::interval THEN (
        SELECT max(v.started_at) FROM ledger_verifications v
        WHERE (v.scope = 'all' OR v.scheduled) AND v.finished_at IS NOT NULL AND v.error IS NULL AND v.findings = 0
    ) - $3::interval END AS since
    FROM (SELECT 1) one
    LEFT JOIN (
        SELECT v.started_at, v.error IS NULL AND v.findings = 0 AS clean FROM ledger_verifications v
        WHERE v.scope = 'all' AND v.finished_at IS NOT NULL ORDER BY v.started_at DESC LIMIT 1
    ) f ON true
) w
WHERE NOT EXISTS (
    SELECT FROM ledger_verifications v
    WHERE (v.scope = 'all' OR v.scheduled) AND v.started_at > clock_timestamp() - $1::interval
        AND v.error IS DISTINCT FROM 'stopped')
ON CONFLICT DO NOTHING
RETURNING run_id, started_at, since;

-- name: renew
UPDATE ledger_verifications
SET lease_until = clock_timestamp() + $2::interval, accounts = $3, entries = $4, findings = $5
WHERE run_id = $1 AND finished_at IS NULL;

-- name: finish
UPDATE ledger_verifications
SET finished_at = clock_timestamp(), accounts = $2, entries = $3, findings = $4, first_findings = $5::text::jsonb,
    error = $6
WHERE run_id = $1
RETURNING user_id, since, started_at, finished_at, accounts, entries, findings, first_findings::text, error;

-- name: latest
-- The last of everybody, or by the clock: those reach back to the last clean one, so nothing known is left out of them.
SELECT user_id, since, started_at, finished_at, accounts, entries, findings, first_findings::text, error
FROM ledger_verifications
WHERE finished_at IS NOT NULL AND (scope = 'all' OR scheduled) AND error IS DISTINCT FROM 'stopped'
ORDER BY started_at DESC LIMIT 1;
