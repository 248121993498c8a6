-- name: picture
-- how many bytes this finished picture of this person has; no row: there is none, or we did not keep it
SELECT coalesce((output ->> 'bytes')::bigint, 0) FROM generations
CROSS JOIN LATERAL jsonb_array_elements(outputs) AS output
WHERE
    id = $1
    AND user_id = $2
    AND deleted_at IS NULL
    AND state = 'completed'
    AND type IN ('image', 'modify')
    AND (output ->> 'index')::integer = $3
    AND output ->> 'kept' IS DISTINCT FROM 'false';

-- name: largest
-- the largest that every endpoint takes; a worker looks after those whose next sample is not long overdue
SELECT min(largest_source_bytes) FROM endpoint_states WHERE sample_due_at > now() - interval '1 day';
