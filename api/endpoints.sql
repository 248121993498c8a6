-- name: all_known
-- every endpoint that a worker looks after, or that still has work of ours; what it said long ago is not known now ($1)
SELECT
    e.name,
    e.type,
    e.endpoint_id,
    e.breaker,
    e.reason,
    e.retry_at,
    e.sampled_at,
    CASE WHEN e.sampled_at > now() - $1::interval THEN e.health END AS health,
    CASE WHEN e.learnt_at > now() - $1::interval THEN e.learnt_limit END AS learnt_limit,
    work.in_flight
FROM endpoint_states AS e
CROSS JOIN LATERAL (
    SELECT
        (
            SELECT count(*) FROM generations AS g
            WHERE g.endpoint_id = e.endpoint_id AND g.state IN ('submitted', 'running')
        )
        + (SELECT count(*) FROM generations AS g WHERE g.endpoint_id = e.endpoint_id AND g.state = 'submitting')
        AS in_flight
) AS work
WHERE e.sample_due_at > now() - interval '1 day' OR work.in_flight > 0
ORDER BY e.type, e.name, e.endpoint_id;
