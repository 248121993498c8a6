-- name: current
SELECT DISTINCT ON (type) version, type, unit_credits, batch_multipliers, effective_at
FROM price_versions
WHERE endpoint IS NULL AND effective_at <= coalesce($1::timestamptz, now())
ORDER BY type, effective_at DESC, version DESC;

-- name: at_version
SELECT version, type, unit_credits, batch_multipliers, effective_at FROM price_versions WHERE version = $1;
