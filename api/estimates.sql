-- name: recent
-- how long the last completed ones of a type ($3 at most, since $2) took from sent to finished, at each endpoint; and how
-- many it served lately ($5), and in the last moment ($6); $7: no more are counted
WITH RECURSIVE known AS (
    (
        SELECT endpoint FROM generations
        WHERE type = $1::text::generation_type AND state = 'completed'
        ORDER BY endpoint
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT g.endpoint FROM generations AS g
        WHERE g.type = $1::text::generation_type AND g.state = 'completed' AND g.endpoint > known.endpoint
        ORDER BY g.endpoint
        LIMIT 1
    )
    FROM known
    WHERE known.endpoint IS NOT NULL
)

SELECT
    known.endpoint,
    newest.endpoint_id,
    newest.finished,
    newest.quantiles,
    lately.served,
    lately.just_now
FROM known
CROSS JOIN LATERAL (
    SELECT
        count(*) AS finished,
        (array_agg(last.endpoint_id ORDER BY last.finished_at DESC))[1] AS endpoint_id,
        percentile_cont($4::double precision[]) WITHIN GROUP (
            ORDER BY extract(EPOCH FROM last.finished_at - last.submitted_at)::double precision
        ) AS quantiles
    FROM (
        SELECT g.endpoint_id, g.submitted_at, g.finished_at FROM generations AS g
        WHERE
            g.type = $1::text::generation_type
            AND g.state = 'completed'
            AND g.endpoint = known.endpoint
            AND g.finished_at > now() - $2::interval
        ORDER BY g.finished_at DESC
        LIMIT $3
    ) AS last
) AS newest
CROSS JOIN LATERAL (
    SELECT count(*) AS served, count(*) FILTER (WHERE ends.finished_at > now() - $6::interval) AS just_now
    FROM (
        SELECT g.finished_at FROM generations AS g
        WHERE
            g.type = $1::text::generation_type
            AND g.state = 'completed'
            AND g.endpoint = known.endpoint
            AND g.finished_at > now() - $5::interval
        ORDER BY g.finished_at DESC
        LIMIT $7
    ) AS ends
) AS lately
WHERE newest.finished > 0;

-- name: doors
-- The endpoints of a type that a worker looks after, and those that served it ($2, $3: an endpoint of several types, or
-- of several names, is known by one): whether they are sent nothing now, how much they may have of us at once (learnt
-- longer ago than $4 is not known any more), and what they have. $5: no more jobs are counted, $6: of so many their age.
SELECT DISTINCT ON (named.name)
    named.name,
    named.endpoint_id,
    coalesce(e.breaker <> 'closed', false) AS shut,
    coalesce(e.said_limit, CASE WHEN e.learnt_at > now() - $4::interval THEN e.learnt_limit END) AS most,
    there.in_flight,
    there.jobs,
    there.ages
FROM (
    SELECT told.name, told.endpoint_id FROM unnest($2::text[], $3::text[]) AS told (name, endpoint_id)
    UNION
    SELECT known.name, known.endpoint_id FROM endpoint_states AS known WHERE known.type = $1::text::generation_type
) AS named
LEFT JOIN endpoint_states AS e ON named.endpoint_id = e.endpoint_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (
            WHERE ours.endpoint = named.name AND ours.type = $1::text::generation_type
        ) AS in_flight,
        (coalesce(array_agg(ours.age ORDER BY ours.age DESC), '{}'))[1:$6::integer] AS ages
    FROM (
        SELECT g.endpoint, g.type, 0::double precision AS age FROM generations AS g
        WHERE g.endpoint_id = named.endpoint_id AND g.state = 'submitting'
        UNION ALL
        (
            SELECT g.endpoint, g.type, greatest(extract(EPOCH FROM now() - g.submitted_at), 0)::double precision
            FROM generations AS g
            WHERE g.endpoint_id = named.endpoint_id AND g.state IN ('submitted', 'running')
            LIMIT $5
        )
    ) AS ours
) AS there
WHERE e.endpoint_id IS NULL OR e.sample_due_at > now() - interval '1 day'
ORDER BY named.name, e.sample_due_at DESC NULLS LAST, named.endpoint_id;
