-- The predicate is that of the indexes in …_twin_ledger_lighter.sql: what work does is in no chain of acts, and not in the log.

-- name: acts
-- newest first, after the place that the cursor names
SELECT * FROM (
    SELECT
        md5(scope || E'\n' || key)::uuid AS id,
        created_at AS at, actor, kind, scope, key, detail ->> 'reason' AS reason, outcome
    FROM credit_operations
    WHERE
        act_seq IS NOT NULL
        AND created_at <= coalesce($1::timestamptz, 'infinity')
        AND ($3::text IS NULL OR actor = $3)
        AND ($4::text IS NULL OR kind = $4)
) AS act
WHERE (act.at, act.id) < (coalesce($1, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY act.at DESC, act.id DESC
LIMIT $5;

-- name: acts_of_scope
-- By its chain, however many they are: whose work fills the table seems to fill the log, too, which would be walked then.
WITH acts AS MATERIALIZED (
    SELECT
        md5(scope || E'\n' || key)::uuid AS id,
        created_at AS at, actor, kind, scope, key, detail ->> 'reason' AS reason, outcome
    FROM credit_operations
    WHERE
        scope = $6
        AND act_seq IS NOT NULL
        AND created_at <= coalesce($1::timestamptz, 'infinity')
        AND ($3::text IS NULL OR actor = $3)
        AND ($4::text IS NULL OR kind = $4)
)
SELECT * FROM acts AS act
WHERE (act.at, act.id) < (coalesce($1, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY act.at DESC, act.id DESC
LIMIT $5;
