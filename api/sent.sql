-- name: attempts
-- every time that we called, or were about to call, RunPod's /run
SELECT
    a.generation_id, a.attempt, a.endpoint, a.started_at, a.outcome, a.remote_id, a.remote_status, a.orphaned_at,
    a.orphan_cancelled_at, a.lost_at, a.detail
FROM generation_attempts AS a
WHERE a.generation_id = ANY($1)
ORDER BY a.generation_id, a.attempt;

-- name: rounds
-- the rounds of a generation that ended and were followed by another one
SELECT
    round, state, error_code AS code, error_detail AS reason, endpoint, finished_at, retried_at, retried_by,
    answered_attempt, remote_status, answer
FROM generation_retries
WHERE generation_id = $1
ORDER BY round;
