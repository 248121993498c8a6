-- name: claim
-- A row back: the key is ours until the transaction ends. None: it was used before. Somebody who is using it right now
-- is waited for, up to $5 milliseconds. The account is opened for the foreign key, when the person is new.
WITH bounded AS MATERIALIZED (
    SELECT
        set_config('lock_timeout', $5, true) AS lock_timeout,
        EXISTS (SELECT FROM user_billing WHERE user_id = $1) OR ledger_open_account($1) AS account
)

INSERT INTO idempotency_keys (user_id, operation, key, fingerprint, status, body)
SELECT $1, $2, $3, $4, 202, '' FROM bounded WHERE lock_timeout IS NOT NULL AND account IS NOT NULL
ON CONFLICT (user_id, operation, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, generation_id = NULL, status = 202, body = '', created_at = now()
WHERE idempotency_keys.created_at < now() - $6::interval
RETURNING true;

-- name: recall
-- Of what its person has deleted the reply has no words any more, or until it is restored.
SELECT
    k.fingerprint,
    k.generation_id,
    k.status,
    CASE WHEN g.deleted_at IS NULL THEN k.body ELSE generation_reply_without_words(k.body) END AS body
FROM idempotency_keys AS k LEFT JOIN generations AS g ON k.generation_id = g.id
WHERE k.user_id = $1 AND k.operation = $2 AND k.key = $3;

-- name: keep
UPDATE idempotency_keys SET generation_id = $4, status = $5, body = $6
WHERE user_id = $1 AND operation = $2 AND key = $3;
