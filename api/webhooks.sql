-- name: record_word
-- What RunPod said about one attempt: its job's id, and how the job ended once it says so. NULL when there is no such
-- attempt; otherwise the id that stands, which may contradict the one that was sent.
UPDATE generation_attempts SET
    remote_id = coalesce(remote_id, $3),
    remote_status = coalesce(remote_status, $4)
WHERE generation_id = $1 AND attempt = $2
RETURNING remote_id;

-- name: keep_receipt
-- once for each distinct body, and no more than $6 of them: an address that leaked must not fill the table
INSERT INTO webhook_receipts (generation_id, attempt, body_sha256, remote_id, remote_status)
SELECT $1, $2, $3, $4, $5
WHERE
    (SELECT count(*) FROM webhook_receipts WHERE generation_id = $1 AND attempt = $2) < $6
    OR EXISTS (SELECT FROM webhook_receipts WHERE generation_id = $1 AND attempt = $2 AND body_sha256 = $3)
ON CONFLICT (generation_id, attempt, body_sha256) DO UPDATE SET
    deliveries = webhook_receipts.deliveries + 1, last_received_at = now()
RETURNING deliveries;
