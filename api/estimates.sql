-- name: line
-- the head of a type's line, in the order in which it will be sent; whoever is not in it has at least that many ahead
SELECT vstart, id FROM generations
WHERE state = 'reserved' AND NOT held_back AND type = $1::text::generation_type
ORDER BY vstart, id
LIMIT $2;

-- name: recent
-- how long the last completed ones of a type took from sent to finished, by endpoint and (endpoint NULL) altogether,
-- and how many of them were sent just now
SELECT
    endpoint,
    count(*) AS finished,
    percentile_cont($5::double precision[]) WITHIN GROUP (ORDER BY seconds) AS quantiles,
    count(*) FILTER (WHERE submitted_at > now() - $4::interval) AS sent_lately
FROM (
    SELECT endpoint, submitted_at, extract(EPOCH FROM finished_at - submitted_at)::double precision AS seconds
    FROM generations
    WHERE type = $1::text::generation_type AND state = 'completed' AND finished_at > now() - $2::interval
    ORDER BY finished_at DESC
    LIMIT $3
) AS recent
GROUP BY GROUPING SETS ((endpoint), ());

-- name: in_flight
SELECT count(*) FROM (
    SELECT FROM generations WHERE state IN ('submitted', 'running') AND type = $1::text::generation_type LIMIT $2
) AS sent;

-- name: doors
-- the endpoints of a type that a worker looks after, and whether they are sent nothing now
SELECT name, breaker <> 'closed' AS shut FROM endpoint_states
WHERE type = $1::text::generation_type AND sample_due_at > now() - interval '1 day';
