-- The breaker of each endpoint, one row for all workers. Every change is a guarded statement and a row in
-- endpoint_changes. `now` is NULL in production.

-- name: register
INSERT INTO endpoint_states AS e (endpoint_id, name, type)
SELECT DISTINCT ON (p.endpoint_id) p.endpoint_id, p.name, p.type
FROM unnest($1::text[], $2::text[], $3::generation_type[]) WITH ORDINALITY AS p (endpoint_id, name, type, number)
ORDER BY p.endpoint_id, p.number
ON CONFLICT (endpoint_id) DO UPDATE SET name = excluded.name, type = excluded.type
WHERE (e.name, e.type) IS DISTINCT FROM (excluded.name, excluded.type);

-- name: take_probe
-- One for all workers: the row's lock lets one through, and what it writes stops the others. Written down as a change
-- only when it is sent (note_probe): what is claimed then may be nothing.
UPDATE endpoint_states SET
    breaker = 'half_open',
    probe_token = $2,
    probe_until = coalesce($4::timestamptz, now()) + $3::interval
WHERE
    endpoint_id = $1
    AND (
        (breaker = 'open' AND retry_at <= coalesce($4::timestamptz, now()))
        OR (breaker = 'half_open' AND probe_until <= coalesce($4::timestamptz, now()))
    )
RETURNING endpoint_id;

-- name: note_probe
WITH moved AS (
    UPDATE endpoint_states SET changed_at = coalesce($3::timestamptz, now())
    WHERE endpoint_id = $1 AND breaker = 'half_open' AND probe_token = $2
    RETURNING *
),

noted AS (
    INSERT INTO endpoint_changes (endpoint_id, from_breaker, to_breaker, reason, at)
    SELECT endpoint_id, 'open', 'half_open', 'probe', changed_at FROM moved
)

SELECT endpoint_id, name, breaker, reason, retry_at FROM moved;

-- name: return_probe
-- nothing was sent: the next worker may take it at once
UPDATE endpoint_states SET breaker = 'open', probe_token = NULL, probe_until = NULL
WHERE endpoint_id = $1 AND breaker = 'half_open' AND probe_token = $2;

-- name: report_failure
-- Counted when it is not long after the one before it; opens at the threshold, or when it was the probe. What comes
-- back late from before the breaker opened changes nothing.
WITH judged AS (
    SELECT
        e.endpoint_id,
        e.breaker,
        counted.failures,
        counted.since,
        e.breaker = 'half_open' OR counted.failures >= $4::integer AS opens,
        least($7::interval, $6::interval * power(2, least(e.openings, 10))) AS patience
    FROM endpoint_states AS e
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN recent.yes THEN e.failures + 1 ELSE 1 END AS failures,
            CASE WHEN recent.yes THEN e.failing_since ELSE coalesce($8::timestamptz, now()) END AS since
        FROM (SELECT coalesce(e.failing_since > coalesce($8::timestamptz, now()) - $5::interval, false) AS yes) AS recent
    ) AS counted
    WHERE e.endpoint_id = $1 AND (e.breaker = 'closed' OR (e.breaker = 'half_open' AND e.probe_token = $2))
    FOR UPDATE OF e
),

moved AS (
    UPDATE endpoint_states AS e SET
        failures = CASE WHEN judged.opens THEN 0 ELSE judged.failures END,
        failing_since = CASE WHEN NOT judged.opens THEN judged.since END,
        breaker = CASE WHEN judged.opens THEN 'open' ELSE e.breaker END,
        openings = e.openings + judged.opens::integer,
        opened_at = CASE WHEN judged.opens THEN coalesce($8::timestamptz, now()) END,
        retry_at = CASE WHEN judged.opens THEN coalesce($8::timestamptz, now()) + judged.patience END,
        reason = CASE WHEN judged.opens THEN $3 ELSE e.reason END,
        probe_token = NULL,
        probe_until = NULL,
        changed_at = CASE WHEN judged.opens THEN coalesce($8::timestamptz, now()) ELSE e.changed_at END
    FROM judged WHERE e.endpoint_id = judged.endpoint_id
    RETURNING e.*, judged.breaker AS was, judged.opens
),

noted AS (
    INSERT INTO endpoint_changes (endpoint_id, from_breaker, to_breaker, reason, at)
    SELECT endpoint_id, was, breaker, reason, changed_at FROM moved WHERE opens
)

SELECT endpoint_id, name, breaker, reason, retry_at FROM moved WHERE opens;

-- name: report_success
-- The probe came through: closed. Of a closed one, the count of failures in a row begins anew.
WITH judged AS (
    SELECT endpoint_id, breaker FROM endpoint_states
    WHERE
        endpoint_id = $1
        AND ((breaker = 'closed' AND failures > 0) OR (breaker = 'half_open' AND probe_token = $2))
    FOR UPDATE
),

moved AS (
    UPDATE endpoint_states AS e SET
        breaker = 'closed',
        failures = 0,
        failing_since = NULL,
        openings = 0,
        opened_at = NULL,
        retry_at = NULL,
        reason = NULL,
        probe_token = NULL,
        probe_until = NULL,
        changed_at = CASE WHEN judged.breaker = 'closed' THEN e.changed_at ELSE coalesce($3::timestamptz, now()) END
    FROM judged WHERE e.endpoint_id = judged.endpoint_id
    RETURNING e.*, judged.breaker AS was
),

noted AS (
    INSERT INTO endpoint_changes (endpoint_id, from_breaker, to_breaker, reason, at)
    SELECT endpoint_id, was, breaker, 'probe-accepted', changed_at FROM moved WHERE was <> 'closed'
)

SELECT endpoint_id, name, breaker, reason, retry_at FROM moved WHERE was <> 'closed';

-- name: reopenings
-- how long until each of these takes work again; a probe that is out is soon back
SELECT
    e.endpoint_id,
    greatest(
        CASE e.breaker
            WHEN 'open' THEN e.retry_at - coalesce($2::timestamptz, now())
            WHEN 'half_open' THEN interval '1 second'
            ELSE interval '0'
        END,
        coalesce(a.closed_until - coalesce($2::timestamptz, now()), interval '0'),
        interval '0'
    ) AS wait
FROM endpoint_states AS e
LEFT JOIN endpoint_allowances AS a ON e.endpoint_id = a.endpoint_id AND a.operation = 'run'
WHERE e.endpoint_id = any($1::text[]);
