-- Generations in flight, put there in bulk: their holds by the ledger's own function, and what the worker would have
-- written of their way so far, but for the transitions before the state in which they begin.

-- name: hold
SELECT count(*) FROM (
    SELECT ledger_reserve(
        f.user_id, 'reserve:' || f.id, f.id, $4::bigint, now() + interval '2 days', $5::jsonb, f.hold_id
    ) ->> 'outcome' AS outcome
    FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS f (id, hold_id, user_id)
) AS reserved WHERE outcome = 'held';

-- name: put_in_flight
-- $4: RunPod's ids; $5: for how many seconds they ran; $6: in how many they are asked about
INSERT INTO generations (
    id, hold_id, user_id, type, prompt, batch_size, state, price_version, quoted, attempt, endpoint, endpoint_id,
    remote_id, created_at, submitted_at, started_at, due_at, deadline_at, transition_actor, transition_reason
)
SELECT
    f.id, f.hold_id, f.user_id, 'text', 'in flight', 1, 'running', $7, $8, 1, 'text', $9,
    f.remote_id, times.began, times.began, times.began, now() + make_interval(secs => f.due_in),
    now() + interval '15 minutes', 'bench', 'in-flight'
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::float[], $6::float[])
    AS f (id, hold_id, user_id, remote_id, ran, due_in)
CROSS JOIN LATERAL (SELECT now() - make_interval(secs => f.ran) AS began) AS times;

-- name: put_attempts
INSERT INTO generation_attempts (generation_id, attempt, endpoint, endpoint_id, outcome, remote_id, started_at)
SELECT id, attempt, endpoint, endpoint_id, 'accepted', remote_id, submitted_at FROM generations WHERE state = 'running';

-- name: put_in_line
-- $4: in how many seconds they may be sent; $5: for how many they will run
INSERT INTO generations (
    id, hold_id, user_id, type, prompt, batch_size, parameters, price_version, quoted, vstart, due_at, deadline_at,
    transition_actor, transition_reason
)
SELECT
    f.id, f.hold_id, f.user_id, 'text', 'in flight', 1, jsonb_build_object('seconds', f.runs), $6, $7, f.number,
    now() + make_interval(secs => f.due_in), now() + interval '20 minutes', 'bench', 'in-line'
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::float[], $5::float[]) WITH ORDINALITY
    AS f (id, hold_id, user_id, due_in, runs, number);

-- name: seen
-- when the end of each was seen, and when it was settled: the moment of the commit, not the transaction's clock
SELECT
    g.remote_id,
    min(extract(EPOCH FROM pg_xact_commit_timestamp(t.xmin))::float) FILTER (WHERE t.to_state = 'finishing') AS seen,
    min(extract(EPOCH FROM pg_xact_commit_timestamp(t.xmin))::float) FILTER (WHERE t.to_state = 'completed') AS settled,
    count(*) FILTER (WHERE t.to_state IN ('finishing', 'completed')) AS ends,
    bool_or(g.heard_attempt IS NOT NULL) AS heard
FROM generation_transitions AS t
INNER JOIN generations AS g ON t.generation_id = g.id
WHERE g.state = 'completed'
GROUP BY g.remote_id;

-- name: completed
SELECT count(*) FROM generations WHERE state = 'completed';

-- name: charged
-- how many holds were captured, and how many of them more than once
SELECT count(*) AS holds, count(*) FILTER (WHERE captures > 1) AS twice FROM (
    SELECT count(*) AS captures FROM credit_entries WHERE kind = 'capture' GROUP BY hold_id
) AS captured;

-- name: leased
SELECT id, lease_token FROM generations WHERE lease_token IS NOT NULL;

-- name: somebody_waits
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted);

-- name: still_leased
-- not yet claimed by another, nor free to be
SELECT count(*) FROM generations AS g
INNER JOIN unnest($1::uuid[], $2::uuid[]) AS dead (id, lease_token) ON g.id = dead.id AND g.lease_token = dead.lease_token
WHERE g.due_at > now();
