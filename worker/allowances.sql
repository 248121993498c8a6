-- A bucket of tokens for each endpoint and operation, filled by the clock and emptied by whoever asks, all workers alike.
-- It holds one and 2.5 % of what RunPod allows in ten seconds, and fills with 9.55 % a second: in any ten seconds at most
-- one and 98 % are taken, and 95.5 % when somebody always waits. The other 2 % are for requests that are longer on their
-- way than others after their tokens were taken: with 1 %, a worker that lacked processor time was 2 requests above.
-- `now` is NULL in production.

-- name: register
-- a bucket that nobody has asked of yet is full, however much that is
INSERT INTO endpoint_allowances (endpoint_id, operation, tokens)
SELECT e.endpoint_id, o.operation, 'Infinity' FROM unnest($1::text[]) AS e (endpoint_id)
CROSS JOIN unnest($2::text[]) AS o (operation)
ORDER BY e.endpoint_id, o.operation
ON CONFLICT DO NOTHING;

-- name: take
-- $1, $3: how many requests at which endpoint; $4: RunPod's allowance in ten seconds; $6: how fast the pace recovers.
-- $7: their tokens were taken so long ago and not used yet (else NULL). They are good while the bucket has not run over
-- since: what it gave others came out of what was left. Once it ran over, others may have had the same again.
WITH known AS (
    SELECT
        a.endpoint_id,
        asked.requests,
        coalesce(a.closed_until > coalesce($5::timestamptz, now()), false) AS closed,
        1 + 0.025 * $4::integer AS size,
        a.overflowed_at,
        a.tokens + 0.0955 * $4::integer
        * greatest(0, extract(EPOCH FROM coalesce($5::timestamptz, now()) - a.refilled_at)::double precision)
        * least(1, a.pace + $6::double precision
            * greatest(0, extract(EPOCH FROM coalesce($5::timestamptz, now()) - a.slowed_at)::double precision)) AS tokens
    FROM endpoint_allowances AS a
    INNER JOIN unnest($1::text[], $3::integer[]) AS asked (endpoint_id, requests) ON a.endpoint_id = asked.endpoint_id
    WHERE a.operation = $2
    ORDER BY a.endpoint_id
    FOR UPDATE OF a
),

filled AS (
    SELECT
        known.endpoint_id,
        known.requests,
        known.closed,
        least(known.size, known.tokens) AS tokens,
        known.tokens > known.size AS overflows,
        coalesce(
            known.tokens <= known.size
            AND coalesce(known.overflowed_at, '-infinity') <= coalesce($5::timestamptz, now()) - $7::interval,
            false
        ) AS held
    FROM known
),

granted AS (
    SELECT
        filled.*,
        CASE
            WHEN filled.closed THEN 0
            WHEN filled.held THEN filled.requests
            ELSE least(filled.requests, floor(filled.tokens)::integer)
        END AS given
    FROM filled
)

UPDATE endpoint_allowances AS a SET
    tokens = granted.tokens - CASE WHEN granted.held THEN 0 ELSE granted.given END,
    refilled_at = greatest(a.refilled_at, coalesce($5::timestamptz, now())),
    overflowed_at = CASE WHEN granted.overflows THEN coalesce($5::timestamptz, now()) ELSE a.overflowed_at END
FROM granted WHERE a.endpoint_id = granted.endpoint_id AND a.operation = $2
RETURNING a.endpoint_id, granted.given AS requests, granted.closed;

-- name: give_back
WITH known AS (
    SELECT a.endpoint_id, unused.requests
    FROM endpoint_allowances AS a
    INNER JOIN unnest($1::text[], $3::integer[]) AS unused (endpoint_id, requests)
        ON a.endpoint_id = unused.endpoint_id
    WHERE a.operation = $2
    ORDER BY a.endpoint_id
    FOR UPDATE OF a
)

UPDATE endpoint_allowances AS a SET tokens = least(1 + 0.025 * $4::integer, a.tokens + known.requests)
FROM known WHERE a.endpoint_id = known.endpoint_id AND a.operation = $2;

-- name: slow_down
-- RunPod said 429: nothing until it wants to be asked again, then half as fast. The 429s of one moment halve it once.
WITH known AS (
    SELECT
        a.endpoint_id,
        told.wait,
        coalesce(a.closed_until > coalesce($4::timestamptz, now()), false) AS closed,
        least(1, a.pace + $5::double precision
            * greatest(0, extract(EPOCH FROM coalesce($4::timestamptz, now()) - a.slowed_at)::double precision)) AS pace
    FROM endpoint_allowances AS a
    INNER JOIN unnest($1::text[], $3::interval[]) AS told (endpoint_id, wait) ON a.endpoint_id = told.endpoint_id
    WHERE a.operation = $2
    ORDER BY a.endpoint_id
    FOR UPDATE OF a
)

UPDATE endpoint_allowances AS a SET
    tokens = 0,
    refilled_at = greatest(a.refilled_at, coalesce($4::timestamptz, now())),
    pace = CASE WHEN known.closed THEN a.pace ELSE greatest($6::double precision, known.pace / 2) END,
    slowed_at = CASE WHEN known.closed THEN a.slowed_at ELSE coalesce($4::timestamptz, now()) END,
    closed_until = greatest(a.closed_until, coalesce($4::timestamptz, now()) + known.wait)
FROM known WHERE a.endpoint_id = known.endpoint_id AND a.operation = $2;
