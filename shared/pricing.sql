-- name: menu
-- every price in force; of a type, those of single endpoints first
SELECT * FROM (
    SELECT DISTINCT ON (type, endpoint) * FROM price_versions
    WHERE effective_at <= coalesce($1::timestamptz, now())
    ORDER BY type, endpoint NULLS LAST, effective_at DESC, version DESC
) AS latest
WHERE NOT withdrawn
ORDER BY type, endpoint NULLS LAST;

-- name: current
SELECT DISTINCT ON (type) version, type, endpoint, unit_credits, batch_multipliers, surcharges, effective_at
FROM price_versions
WHERE endpoint IS NULL AND effective_at <= coalesce($1::timestamptz, now())
ORDER BY type, effective_at DESC, version DESC;

-- name: in_force
-- by column, since a quote asks it as the person, who may not see who set a price
SELECT * FROM (
    SELECT version, type, endpoint, unit_credits, batch_multipliers, surcharges, effective_at, withdrawn
    FROM price_versions
    WHERE
        type = $1
        AND endpoint IS NOT DISTINCT FROM $2::text
        AND effective_at <= coalesce($3::timestamptz, now())
    ORDER BY effective_at DESC, version DESC
    LIMIT 1
) AS latest
WHERE NOT withdrawn;

-- name: at_version
SELECT version, type, endpoint, unit_credits, batch_multipliers, surcharges, effective_at
FROM price_versions
WHERE version = $1;

-- name: versions
-- newest first, below the version that the cursor names; each with the time from which another one is in force
SELECT p.*, successor.effective_at AS ends_at
FROM price_versions AS p
LEFT JOIN LATERAL (
    SELECT n.effective_at
    FROM price_versions AS n
    WHERE
        n.type = p.type
        AND n.endpoint IS NOT DISTINCT FROM p.endpoint
        AND (n.effective_at, n.version) > (p.effective_at, p.version)
    ORDER BY n.effective_at, n.version
    LIMIT 1
) AS successor ON true
WHERE p.version < coalesce($1, 9223372036854775807) AND (cardinality($2::text[]) = 0 OR p.type = ANY($2))
ORDER BY p.version DESC
LIMIT $3;

-- name: add
-- read as text, so the answer is the same with and without a JSON codec on the connection
SELECT prices_add($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8, $9, $10, $11)::text;
