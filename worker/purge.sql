-- Erasing what people deleted. `purging_at` is committed before anything is gone, so nobody restores half of it.

-- name: claim
-- What an open generation starts from waits for its end.
UPDATE generations AS g SET
    purging_at = coalesce(g.purging_at, $3::timestamptz, now()),
    purge_due_at = coalesce($3::timestamptz, now()) + $2::interval
FROM (
    SELECT id FROM generations AS deleted
    WHERE
        deleted.purge_due_at <= coalesce($3::timestamptz, now())
        AND NOT EXISTS (
            SELECT FROM generations AS open
            WHERE open.source ->> 'generation_id' = deleted.id::text AND open.source IS NOT NULL AND open.due_at IS NOT NULL
        )
    ORDER BY deleted.purge_due_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) AS due
WHERE g.id = due.id
RETURNING g.id;

-- name: erase
-- The replies that are kept for repeats keep their status, ids and amounts; what RunPod said may repeat what we sent.
WITH erased AS (
    UPDATE generations SET
        purged_at = coalesce($2::timestamptz, now()),
        purge_due_at = NULL,
        prompt = '',
        parameters = '{}',
        outputs = '[]',
        progress = NULL
    WHERE id = $1 AND purging_at IS NOT NULL AND purged_at IS NULL
    RETURNING id
),

results AS (
    DELETE FROM generation_results AS r USING erased WHERE r.generation_id = erased.id
),

streams AS (
    DELETE FROM generation_streams AS s USING erased WHERE s.generation_id = erased.id
),

attempts AS (
    UPDATE generation_attempts AS a SET detail = NULL FROM erased WHERE a.generation_id = erased.id
),

rounds AS (
    UPDATE generation_retries AS r SET answer = NULL FROM erased WHERE r.generation_id = erased.id
),

kept_replies AS (
    UPDATE idempotency_keys AS k SET body = generation_reply_without_words(k.body)
    FROM erased
    WHERE k.generation_id = erased.id
)

SELECT id FROM erased;
