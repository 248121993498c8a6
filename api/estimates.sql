-- name: ahead
-- how many wait for the worker before this one; counts to a limit, so that a long queue costs no more than a short one
SELECT
    (SELECT count(*) FROM (SELECT FROM generations WHERE state = 'reserved' AND due_at < $1 LIMIT $2) AS waiting)
    + (SELECT count(*) FROM (SELECT FROM generations WHERE state = 'submitting' LIMIT $2) AS leaving);

-- name: recent_durations
-- seconds from accepted, or tried again, to finished of the last completed ones; NULL percentiles when there were too few
SELECT
    count(*) AS finished,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) AS p90
FROM (
    SELECT extract(EPOCH FROM finished_at - coalesce(retried_at, created_at))::double precision AS seconds
    FROM generations
    WHERE type = $1::text::generation_type AND state = 'completed' AND finished_at > now() - $2::interval
    ORDER BY finished_at DESC
    LIMIT $3
) AS recent;
