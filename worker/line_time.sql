-- How time passes in the lines, in credits per weight (…_twin_fairness.sql). `now` is NULL in production.

-- name: pass_time
-- What was claimed ($1: id, and whether it waits there for the job in hand) and what is in hand at these endpoints ($2) is
-- served. $3: which lines meet at which endpoint. $4 and $5: what a place costs, as in `insert`.
-- What is sent ahead, to wait at RunPod, is not being served. So whoever comes meanwhile stands before it, and it is
-- recalled for them (recall.sql); it counts when it is in hand, or at once where the clock has passed it.
WITH told AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS told (id uuid, ahead boolean)
),

sent AS (
    SELECT g.*, told.ahead
    FROM told
    CROSS JOIN LATERAL (
        SELECT
            g.type,
            g.endpoint_id,
            g.vstart,
            g.user_id,
            g.quoted,
            coalesce(g.wanted_endpoint, '') AS lane,
            -- what is sent again, since it was turned away or recalled, has taken its time
            g.attempt = g.earlier_attempts + 1 AS is_first
        FROM generations AS g
        WHERE g.id = told.id
        OFFSET 0  -- row by row, however few generations there are
    ) AS g
    UNION ALL
    SELECT g.type, g.endpoint_id, g.vstart, g.user_id, g.quoted, '', false, false FROM generations AS g
    WHERE g.endpoint_id = any($2::text[]) AND g.state IN ('submitted', 'running')
    UNION ALL
    SELECT g.type, g.endpoint_id, g.vstart, g.user_id, g.quoted, '', false, false FROM generations AS g
    WHERE g.endpoint_id = any($2::text[]) AND g.state = 'submitting'
),

meets AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb) AS meet (
        endpoint_id text, served generation_type, other generation_type
    )
),

-- A clock that another worker's claim is about to set is left to it: no claim waits for one, and it lags by one claim.
-- What is kept for an endpoint is under its lock (line.sql: lock_endpoints).
clocks AS (
    SELECT line.type, line.vtime FROM queue_clock AS line
    WHERE line.type IN (SELECT sent.type FROM sent UNION ALL SELECT meets.other FROM meets)
    FOR UPDATE SKIP LOCKED
),

-- It stops short of who is served: whoever comes then is before those who stand beside them.
went AS (
    SELECT clocks.type, max(sent.vstart) - 1 - clocks.vtime AS on_by
    FROM clocks INNER JOIN sent ON clocks.type = sent.type
    WHERE NOT sent.ahead
    GROUP BY clocks.type, clocks.vtime
),

there AS (
    SELECT
        sent.*,
        least(greatest(sent.quoted, 1), $5::bigint) * $4::bigint / p.weight AS vcost,
        line.vtime,
        met.vstart AS last_vstart,
        coalesce(met.others, 0) AS others
    FROM sent
    INNER JOIN queue_clock AS line ON sent.type = line.type
    INNER JOIN user_billing AS u ON sent.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    LEFT JOIN queue_meetings AS met ON sent.endpoint_id = met.endpoint_id AND sent.type = met.type
    WHERE sent.endpoint_id IN (SELECT meets.endpoint_id FROM meets)
),

-- How much time passes there with each: from the one before it (at first from the clock) to this one, no more than it
-- costs; for the first less what others were served meanwhile. Who stands beside one that was served takes none.
steps AS (
    SELECT
        there.endpoint_id,
        there.type,
        there.vstart,
        greatest(
            0,
            least(there.vcost, there.vstart - lag(there.vstart, 1, coalesce(there.last_vstart, there.vtime)) OVER places)
            - CASE row_number() OVER places WHEN 1 THEN there.others ELSE 0 END
        ) AS on_by
    FROM there
    WHERE NOT there.ahead AND there.vstart > coalesce(there.last_vstart, -1)
    WINDOW places AS (PARTITION BY there.endpoint_id, there.type ORDER BY there.vstart)
),

own AS (
    SELECT steps.endpoint_id, steps.type, max(steps.vstart) AS vstart, sum(steps.on_by) AS on_by
    FROM steps GROUP BY steps.endpoint_id, steps.type
),

-- what the clock has passed, and others of its type that were served there, stands in no order any more
passed AS (
    SELECT there.endpoint_id, there.type, there.vtime, sum(there.vcost) AS on_by
    FROM there
    WHERE there.is_first AND there.vstart < there.last_vstart AND there.vstart < there.vtime
    GROUP BY there.endpoint_id, there.type, there.vtime
),

-- for each line, what the others were served: together in the order of one line, and what stands in none
others AS (
    SELECT
        meets.endpoint_id,
        meets.other AS type,
        (coalesce(max(own.on_by), 0) + coalesce(sum(passed.on_by), 0))::bigint AS on_by
    FROM meets
    LEFT JOIN own ON meets.endpoint_id = own.endpoint_id AND meets.served = own.type
    LEFT JOIN passed ON meets.endpoint_id = passed.endpoint_id AND meets.served = passed.type
    GROUP BY meets.endpoint_id, meets.other
),

noted AS (
    INSERT INTO queue_meetings AS met (endpoint_id, type, vstart, others)
    SELECT
        others.endpoint_id,
        others.type,
        coalesce(own.vstart, served_late.vtime, known.vstart),
        CASE WHEN own.type IS NULL THEN known.others + others.on_by ELSE greatest(0, others.on_by - own.on_by) END
    FROM others
    LEFT JOIN own ON others.endpoint_id = own.endpoint_id AND others.type = own.type
    LEFT JOIN passed AS served_late
        ON others.endpoint_id = served_late.endpoint_id AND others.type = served_late.type
    LEFT JOIN queue_meetings AS known ON others.endpoint_id = known.endpoint_id AND others.type = known.type
    WHERE own.type IS NOT NULL OR served_late.type IS NOT NULL OR (known.type IS NOT NULL AND others.on_by > 0)
    ON CONFLICT (endpoint_id, type) DO UPDATE SET vstart = excluded.vstart, others = excluded.others
),

-- What the clock has passed is served all the same, and time passes with it.
late AS (
    SELECT
        sent.type,
        array_agg(sent.lane) AS lanes,
        sum(least(greatest(sent.quoted, 1), $5::bigint) * $4::bigint / p.weight) AS on_by
    FROM sent
    INNER JOIN queue_clock AS line ON sent.type = line.type
    INNER JOIN user_billing AS u ON sent.user_id = u.user_id
    INNER JOIN credit_plans AS p ON u.plan = p.plan
    WHERE sent.is_first AND sent.vstart < line.vtime
    GROUP BY sent.type
),

-- The clocks of these and of the others go on as well, but not to where their next one stands that could go there (nor, for
-- what was late, to one that wants another endpoint: it would be late itself): whoever comes new to either is before it.
kept_step AS (
    SELECT clocks.type, least(went_on.by, next_one.vstart - clocks.vtime - 1)::bigint AS on_by
    FROM clocks
    INNER JOIN (
        SELECT others.type, sum(others.on_by) AS by, NULL::text[] AS lanes FROM others GROUP BY others.type
        UNION ALL
        SELECT late.type, late.on_by, late.lanes FROM late
    ) AS went_on
        ON clocks.type = went_on.type
    CROSS JOIN LATERAL (
        SELECT min(g.vstart) AS vstart FROM generations AS g
        WHERE
            g.state = 'reserved'
            AND NOT g.held_back
            AND g.type = clocks.type
            AND g.vstart > clocks.vtime
            AND (g.wanted_endpoint IS NULL OR g.wanted_endpoint <> all(went_on.lanes))
            AND g.due_at <= coalesce($6::timestamptz, now())
            AND g.cancel_requested_at IS NULL
            AND g.heard_attempt IS NULL
            AND g.deadline_at > coalesce($6::timestamptz, now())
    ) AS next_one
)

UPDATE queue_clock AS line SET vtime = line.vtime + steps.on_by
FROM (
    SELECT steps.type, max(steps.on_by) AS on_by
    FROM (SELECT * FROM went UNION ALL SELECT * FROM kept_step) AS steps
    GROUP BY steps.type
) AS steps
WHERE line.type = steps.type AND steps.on_by > 0;

-- name: behind
-- How far each line is behind its clock at these endpoints ($1): `since` the last of the type that was served there, less
-- what others were served.
SELECT met.endpoint_id, met.type::text AS type, line.vtime - met.vstart AS since, met.others
FROM queue_meetings AS met INNER JOIN queue_clock AS line ON met.type = line.type
WHERE met.endpoint_id = any($1::text[]);
