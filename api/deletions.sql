-- name: delete
UPDATE generations SET deleted_at = now(), purge_due_at = now() + $3::interval
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL AND generation_is_terminal(state)
RETURNING deleted_at, purge_due_at;

-- name: standing
-- one that is being purged is gone for its person
SELECT state, deleted_at, purge_due_at FROM generations WHERE id = $1 AND user_id = $2 AND purging_at IS NULL;

-- name: restore
UPDATE generations SET deleted_at = NULL, purge_due_at = NULL
WHERE id = $1 AND user_id = $2 AND deleted_at IS NOT NULL AND purging_at IS NULL
RETURNING true;
