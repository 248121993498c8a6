-- Each statement must return no rows; each row names what disagrees. The sentence above it says what a row would mean.

-- An account's balance is not what its buckets hold.
-- name: i2_account_is_its_buckets
SELECT a.user_id, a.posted, a.held, b.posted AS in_buckets, b.held AS held_in_buckets
FROM user_billing a
LEFT JOIN LATERAL (
    SELECT coalesce(sum(remaining + held), 0) AS posted, coalesce(sum(held), 0) AS held
    FROM credit_buckets WHERE user_id = a.user_id
) b ON true
WHERE (a.posted, a.held) <> (b.posted, b.held);

-- An account's balance is not the sum of its entries.
-- name: i2_account_is_its_entries
SELECT a.user_id, a.posted, e.posted AS by_entries, e.held AS held_by_entries
FROM user_billing a
LEFT JOIN LATERAL (
    SELECT
        coalesce(sum(amount) FILTER (WHERE to_leg IN ('available', 'held')), 0)
            - coalesce(sum(amount) FILTER (WHERE from_leg IN ('available', 'held')), 0) AS posted,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'held'), 0)
            - coalesce(sum(amount) FILTER (WHERE from_leg = 'held'), 0) AS held,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'overdraft_held'), 0)
            - coalesce(sum(amount) FILTER (WHERE from_leg = 'overdraft_held'), 0) AS overdraft_held,
        coalesce(sum(amount) FILTER (WHERE from_leg IN ('overdraft', 'overdraft_held')), 0)
            - coalesce(sum(amount) FILTER (WHERE to_leg IN ('overdraft', 'overdraft_held')), 0) AS overdraft_used
    FROM credit_entries WHERE user_id = a.user_id
) e ON true
WHERE (a.posted, a.held, a.overdraft_held, a.overdraft_used)
    <> (e.posted, e.held, e.overdraft_held, e.overdraft_used);

-- A bucket holds credits for nobody, or an open hold's credits are in no bucket.
-- name: i2_bucket_held_is_its_open_holds
SELECT b.user_id, b.bucket_id, b.held, p.held AS by_holds
FROM credit_buckets b
LEFT JOIN (
    SELECT p.bucket_id, sum(p.amount) AS held
    FROM credit_hold_parts p JOIN credit_holds h USING (hold_id)
    WHERE h.state = 'open' GROUP BY p.bucket_id
) p USING (bucket_id)
WHERE b.held <> coalesce(p.held, 0);

-- Overdraft is promised to nobody, or not promised to an open hold that counts on it.
-- name: i2_overdraft_held_is_its_open_holds
SELECT a.user_id, a.overdraft_held, coalesce(p.held, 0) AS by_holds
FROM user_billing a
LEFT JOIN (
    SELECT h.user_id, sum(p.amount) AS held
    FROM credit_hold_parts p JOIN credit_holds h USING (hold_id)
    WHERE h.state = 'open' AND p.bucket_id IS NULL GROUP BY h.user_id
) p USING (user_id)
WHERE a.overdraft_held <> coalesce(p.held, 0);

-- An entry is missing, or the account does not end where its entries end.
-- name: i3_seq_is_gapless_to_the_head
SELECT a.user_id, a.seq, count(e.seq) AS entries, max(e.seq) AS last
FROM user_billing a LEFT JOIN credit_entries e USING (user_id)
GROUP BY a.user_id
HAVING a.seq <> count(e.seq) OR a.seq <> coalesce(max(e.seq), 0)
    OR (a.seq > 0 AND NOT coalesce(bool_or(e.hash = a.head_hash) FILTER (WHERE e.seq = a.seq), false));

-- The parts of a hold do not add up to the hold.
-- name: i4_hold_is_its_parts
SELECT h.hold_id, h.state, h.quoted, h.captured, h.released, p.*
FROM credit_holds h
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum(captured), 0) AS captured,
        coalesce(sum(released), 0) AS released, coalesce(max(ordinal), 0) AS last, count(*) AS parts
    FROM credit_hold_parts WHERE hold_id = h.hold_id
) p ON true
WHERE (h.quoted, h.captured, h.released) <> (p.amount, p.captured, p.released) OR p.last <> p.parts;

-- Revenue was taken for a hold that does not say so, or the other way round.
-- name: i4_hold_is_its_entries
SELECT h.hold_id, h.quoted, h.captured, h.released, h.late_captured, e.*
FROM credit_holds h
LEFT JOIN (
    SELECT hold_id,
        coalesce(sum(amount) FILTER (WHERE kind = 'reserve'), 0) AS reserved,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'revenue'), 0) AS revenue,
        coalesce(sum(amount) FILTER (WHERE kind IN ('release', 'lapse')), 0) AS returned
    FROM credit_entries WHERE hold_id IS NOT NULL GROUP BY hold_id
) e USING (hold_id)
WHERE (h.quoted, h.captured + h.late_captured, h.released)
    <> (coalesce(e.reserved, 0), coalesce(e.revenue, 0), coalesce(e.returned, 0));

-- A hold that no reserve answered for, or a bucket that no grant answered for.
-- name: i6_every_hold_and_bucket_has_its_operation
SELECT 'hold' AS what, hold_id::text AS id FROM credit_holds h
WHERE NOT EXISTS (
    SELECT FROM credit_operations o
    WHERE o.scope = h.user_id AND o.kind = 'reserve' AND o.outcome ->> 'hold_id' = h.hold_id::text)
UNION ALL
SELECT 'bucket', bucket_id::text FROM credit_buckets b
WHERE NOT EXISTS (
    SELECT FROM credit_operations o
    WHERE o.scope = b.user_id AND o.outcome ->> 'bucket_id' = b.bucket_id::text)
    AND NOT EXISTS (SELECT FROM credit_entries e
        WHERE e.user_id = b.user_id AND e.bucket_id = b.bucket_id
            AND (e.kind = 'adjust' OR (e.kind = 'grant' AND e.detail ->> 'kind' = 'daily')));

-- An operation answered that it held credits, and there is no such hold.
-- name: i6_every_held_answer_has_its_hold
SELECT o.scope, o.key FROM credit_operations o
WHERE o.outcome ->> 'outcome' = 'held'
    AND NOT EXISTS (SELECT FROM credit_holds h
        WHERE h.hold_id = (o.outcome ->> 'hold_id')::uuid AND h.user_id = o.scope);

-- Somebody is deeper in debt than the limit, and no late capture explains it.
-- name: i7_overdraft_is_within_its_limit
SELECT a.user_id, a.overdraft_used, a.overdraft_held, a.overdraft_limit
FROM user_billing u CROSS JOIN LATERAL ledger_on_terms(u) a
WHERE a.overdraft_used + a.overdraft_held > a.overdraft_limit AND a.policy <> 'off'
    AND NOT EXISTS (SELECT FROM credit_holds h WHERE h.user_id = a.user_id AND h.late);

-- A hold or a bucket will run out, and the sweep will not look in time.
-- name: i8_due_times_are_never_late
SELECT a.user_id, 'hold' AS what, h.hold_id::text AS id
FROM user_billing a JOIN credit_holds h USING (user_id)
WHERE h.state = 'open' AND (a.holds_due_at IS NULL OR h.expires_at < a.holds_due_at)
UNION ALL
SELECT a.user_id, 'bucket', b.bucket_id::text
FROM user_billing a JOIN credit_buckets b USING (user_id)
WHERE b.remaining > 0 AND b.expires_at IS NOT NULL AND (a.due_at IS NULL OR b.expires_at < a.due_at);

-- A hold was priced by a version that does not exist or says otherwise.
-- name: i9_price_is_in_the_catalogue
SELECT h.hold_id, h.price FROM credit_holds h
LEFT JOIN price_versions v ON v.version = (h.price ->> 'price_version')::bigint
WHERE h.price ? 'price_version' AND (v.version IS NULL OR NOT price_fits(h.price, v));

-- Over everyone: credits came from nowhere, or went nowhere.
-- name: i10_issued_is_spent_expired_reversed_and_outstanding
SELECT e.*, a.outstanding
FROM (
    SELECT coalesce(sum(amount) FILTER (WHERE from_leg = 'issued'), 0) AS issued,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'revenue'), 0)
            - coalesce(sum(amount) FILTER (WHERE from_leg = 'revenue'), 0) AS revenue,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'expired'), 0) AS expired,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'reversed'), 0) AS reversed
    FROM credit_entries
) e, (
    SELECT coalesce(sum(posted - overdraft_used), 0) AS outstanding FROM user_billing
) a
WHERE e.issued <> e.revenue + e.expired + e.reversed + a.outstanding;

-- A generation ended and its hold did not, or the other way round; or they disagree about the price.
-- name: i11_generation_is_terminal_exactly_when_its_hold_is_final
SELECT g.id, g.state, g.quoted, g.charged, h.state AS hold_state, h.final, h.quoted AS hold_quoted,
    h.captured + h.late_captured AS hold_charged
FROM generations g JOIN credit_holds h USING (hold_id)
WHERE generation_is_terminal(g.state) <> h.final OR g.quoted <> h.quoted OR g.id <> h.generation_id
    OR g.user_id <> h.user_id
    OR (generation_is_terminal(g.state) AND g.charged IS DISTINCT FROM h.captured + h.late_captured);
