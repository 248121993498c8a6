-- Who stands first. `now` is NULL in production.

-- name: lock_endpoints
-- One claim at a time at an endpoint, until its commit; what it has is counted in a statement after this one. Not by the
-- rows of the breakers: whoever writes down what RunPod said needs those, and must not wait for a claim that hangs. In
-- the order of the keys, so that no two claims wait for each other. The seed keeps off other locks (ledger_line has 1).
-- What follows is planned once a session: its plans are the same whatever is asked, and take longer to make than to follow.
SELECT pg_advisory_xact_lock(ordered.key), set_config('plan_cache_mode', 'force_generic_plan', true)
FROM (
    SELECT hashtextextended(e.endpoint_id, 2) AS key FROM unnest($1::text[]) AS e (endpoint_id)
    ORDER BY key
) AS ordered;

-- name: in_flight
-- What each endpoint ($1) has of us by our own count; and of those whose limit is learnt ($2), how many have ended without
-- our knowing: what was there before the last sample, unless that is old ($4), and is more than it showed. Whichever they
-- are: of the oldest we hear first. One more is not counted: it is often between us somewhere.
SELECT
    e.endpoint_id,
    (SELECT count(*) FROM generations AS g WHERE g.endpoint_id = e.endpoint_id AND g.state IN ('submitted', 'running'))
    + (SELECT count(*) FROM generations AS g WHERE g.endpoint_id = e.endpoint_id AND g.state = 'submitting') AS jobs,
    coalesce(greatest(before.jobs - (sample.learnt_seen + 1), 0), 0) AS unseen
FROM unnest($1::text[]) AS e (endpoint_id)
LEFT JOIN endpoint_states AS sample
    ON
        e.endpoint_id = sample.endpoint_id
        AND e.endpoint_id = any($2::text[])
        AND sample.learnt_at > coalesce($3::timestamptz, now()) - $4::interval
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM generations AS g
    WHERE
        sample.learnt_at IS NOT NULL
        AND g.endpoint_id = e.endpoint_id
        AND g.state IN ('submitted', 'running')
        AND g.submitted_at < sample.learnt_at
) AS before;

-- name: heads
-- The heads of the lanes ($1): those of a type that go anywhere (name ''), those that want an endpoint by name. Who wants
-- one that is not here ($2) waits with those that go anywhere, to be told so. Locked until the claim.
-- Each with how far it stands ahead of the clock of its line, and how lately its person `had` a place at each of the endpoints
-- that have none for everybody ($4): 1 who had theirs the longest ago, the most who has one. They come after whoever had none
-- there while theirs waited, also where the clock has passed them all; then they stand where their place ends, so far ahead
-- of the clock (`ends`). So those of all others are asked for besides, since any number of a crowd may stand before them in
-- time; in an order of `chance`. What each costs ($6 and $7, as in `insert`) is looked up where lines meet ($5).
WITH places AS (
    SELECT
        there.endpoint_id,
        there.type,
        there.user_id,
        'infinity'::timestamptz AS started_at,
        (
            SELECT a.vfinish FROM generation_attempts AS a
            WHERE a.generation_id = there.id AND a.attempt = there.attempt
        ) AS vfinish
    FROM (
        SELECT g.id, g.attempt, g.endpoint_id, g.type, g.user_id FROM generations AS g
        WHERE g.endpoint_id = any($4::text[]) AND g.state IN ('submitted', 'running')
        UNION ALL
        SELECT g.id, g.attempt, g.endpoint_id, g.type, g.user_id FROM generations AS g
        WHERE cardinality($4::text[]) > 0 AND g.endpoint_id = any($4::text[]) AND g.state = 'submitting'
    ) AS there
    UNION ALL
    SELECT had.endpoint_id, had.type, had.user_id, had.started_at, had.vfinish
    FROM generation_last_places($4::text[]) AS had
    WHERE cardinality($4::text[]) > 0
),

busy AS (
    SELECT places.endpoint_id, places.user_id, dense_rank() OVER (ORDER BY max(places.started_at)) AS had
    FROM places
    GROUP BY places.endpoint_id, places.user_id
),

-- Bounded: each reads no more than it may take, and those of busy people as far as `until`, however many stand alike.
lanes AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS lane (
        type generation_type, name text, endpoint_id text, most integer
    )
),

anywhere AS (
    SELECT waiting.* FROM lanes
    CROSS JOIN LATERAL (
        SELECT g.id, g.user_id, g.type, ''::text AS lane, g.vstart FROM generations AS g
        WHERE
            lanes.name = ''
            AND g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = lanes.type
            AND (
                g.wanted_endpoint IS NULL
                OR NOT EXISTS (
                    SELECT FROM jsonb_to_recordset($2::jsonb) AS here (type generation_type, name text)
                    WHERE here.type = g.type AND here.name = g.wanted_endpoint
                )
            )
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
        ORDER BY g.vstart, g.id
        LIMIT lanes.most
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
),

wanting AS (
    SELECT waiting.* FROM lanes
    CROSS JOIN LATERAL (
        SELECT g.id, g.user_id, g.type, g.wanted_endpoint AS lane, g.vstart FROM generations AS g
        WHERE
            lanes.name <> ''
            AND g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = lanes.type
            AND g.wanted_endpoint = lanes.name
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
        ORDER BY g.vstart, g.id
        LIMIT lanes.most
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
),

idle_anywhere AS (
    SELECT waiting.* FROM (
        SELECT lanes.*, greatest(line.vtime + 1, (
            SELECT max(f.vstart) FROM anywhere AS f WHERE f.type = lanes.type AND f.lane = lanes.name
        ), (
            SELECT max(places.vfinish) FROM places WHERE places.type = lanes.type
        )) AS until
        FROM lanes INNER JOIN queue_clock AS line ON lanes.type = line.type
        WHERE cardinality($4::text[]) > 0
    ) AS lanes
    CROSS JOIN LATERAL (
        SELECT g.id, g.user_id, g.type, ''::text AS lane, g.vstart FROM generations AS g
        WHERE
            lanes.name = ''
            AND g.vstart <= lanes.until
            AND NOT (
                (g.type, g.user_id) IN (
                    SELECT there.type, busy.user_id FROM busy
                    INNER JOIN jsonb_to_recordset($2::jsonb) AS there (type generation_type, endpoint_id text)
                        ON busy.endpoint_id = there.endpoint_id
                )
            )
            AND g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = lanes.type
            AND (
                g.wanted_endpoint IS NULL
                OR NOT EXISTS (
                    SELECT FROM jsonb_to_recordset($2::jsonb) AS here (type generation_type, name text)
                    WHERE here.type = g.type AND here.name = g.wanted_endpoint
                )
            )
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
        ORDER BY g.vstart, g.id
        LIMIT lanes.most
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
),

idle_wanting AS (
    SELECT waiting.* FROM (
        SELECT lanes.*, greatest(line.vtime + 1, (
            SELECT max(f.vstart) FROM wanting AS f WHERE f.type = lanes.type AND f.lane = lanes.name
        ), (
            SELECT max(places.vfinish) FROM places WHERE places.type = lanes.type
        )) AS until
        FROM lanes INNER JOIN queue_clock AS line ON lanes.type = line.type
        WHERE cardinality($4::text[]) > 0
    ) AS lanes
    CROSS JOIN LATERAL (
        SELECT g.id, g.user_id, g.type, g.wanted_endpoint AS lane, g.vstart FROM generations AS g
        WHERE
            lanes.name <> ''
            AND g.vstart <= lanes.until
            AND NOT ((lanes.endpoint_id, g.user_id) IN (SELECT busy.endpoint_id, busy.user_id FROM busy))
            AND g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = lanes.type
            AND g.wanted_endpoint = lanes.name
            AND g.due_at <= coalesce($3::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($3::timestamptz, now())
        ORDER BY g.vstart, g.id
        LIMIT lanes.most
        FOR UPDATE OF g SKIP LOCKED
    ) AS waiting
)

SELECT
    heads.id,
    heads.type::text AS type,
    heads.lane,
    heads.vstart,
    greatest(heads.vstart - line.vtime, 0) AS ahead,
    (
        SELECT coalesce(jsonb_object_agg(busy.endpoint_id, busy.had), '{}') FROM busy
        WHERE busy.user_id = heads.user_id
    ) AS had,
    (
        SELECT coalesce(jsonb_object_agg(theirs.endpoint_id, greatest(theirs.vfinish - line.vtime, 1)), '{}') FROM (
            SELECT places.endpoint_id, max(places.vfinish) AS vfinish FROM places
            WHERE places.type = heads.type AND places.user_id = heads.user_id
            GROUP BY places.endpoint_id
        ) AS theirs
    ) AS ends,
    cost.vcost,
    row_number() OVER (ORDER BY random()) AS chance
FROM (
    SELECT * FROM anywhere UNION SELECT * FROM wanting
    UNION SELECT * FROM idle_anywhere UNION SELECT * FROM idle_wanting
) AS heads
INNER JOIN queue_clock AS line ON heads.type = line.type
LEFT JOIN LATERAL (
    SELECT least(greatest(g.quoted, 1), $7::bigint) * $6::bigint / p.weight AS vcost
    FROM generations AS g
    INNER JOIN user_billing AS u ON g.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    WHERE g.id = heads.id AND $5::boolean
    OFFSET 0  -- row by row: else all of both tables is read, and joined
) AS cost ON true;
