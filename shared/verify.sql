-- What `shared/verify.py` asks. `accounts` and `chain` return one row an account; every other statement must return no
-- rows: each row is one finding (kind, table, key, user_id, detail), and shared/findings.py says what the kind means.
-- What operations answered is compared as JSON or text, so that no forged value can end the run.

-- name: accounts
-- The next $4 accounts by key; touched: its last entry is not before $3. Entries: about how many it has.
SELECT a.user_id, coalesce(e.seq, 0) AS entries, coalesce($3::timestamptz IS NULL OR e.at >= $3, false) AS touched
FROM (
    SELECT u.user_id FROM user_billing u
    WHERE u.user_id > $1 AND ($2::text IS NULL OR u.user_id = $2) ORDER BY u.user_id LIMIT $4
) a
LEFT JOIN LATERAL (
    SELECT l.seq, l.at FROM credit_entries l WHERE l.user_id = a.user_id ORDER BY l.seq DESC LIMIT 1
) e ON true
ORDER BY a.user_id;

-- name: chain
-- Up to $8 entries of each account, after the state in which the last chunk of it ended ($2 to $7): whether each has
-- the number, the balances and the hash that follow from the entry before it *as stored*, so that a bad entry does not
-- drag along those behind it. The hashed text is the one of ledger_hash, written directly: a third of the time.
SELECT u.user_id, w.entries, w.bad, w.issued, w.revenue, w.expired, w.reversed,
    ARRAY[a.posted, a.held, a.overdraft_used, a.overdraft_held] AS account, a.seq AS account_seq, a.head_hash,
    l.seq, l.hash, ARRAY[l.posted_after, l.held_after, l.overdraft_used_after, l.overdraft_held_after] AS balances
FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS u (user_id, seq, hash, posted, held, overdraft_used, overdraft_held)
INNER JOIN user_billing a ON a.user_id = u.user_id
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, max(j.seq) AS last,
        coalesce(sum(j.amount) FILTER (WHERE j.from_leg = 'issued'), 0)::bigint AS issued,
        coalesce(sum(CASE WHEN j.to_leg = 'revenue' THEN j.amount WHEN j.from_leg = 'revenue' THEN -j.amount END), 0)::bigint
            AS revenue,
        coalesce(sum(j.amount) FILTER (WHERE j.to_leg = 'expired'), 0)::bigint AS expired,
        coalesce(sum(j.amount) FILTER (WHERE j.to_leg = 'reversed'), 0)::bigint AS reversed,
        json_agg(json_build_object('seq', j.seq, 'before', j.seq_before, 'changed', j.changed,
            'unbalanced', j.unbalanced, 'unlawful', j.unlawful) ORDER BY j.seq)
            FILTER (WHERE j.seq <> j.seq_before + 1 OR j.changed OR j.unbalanced OR j.unlawful)::text AS bad
    FROM (
        SELECT i.seq, i.seq_before, i.amount, i.from_leg, i.to_leg,
            i.hash <> sha256(i.hash_before || convert_to(concat('[', to_json(i.user_id), ', ', i.seq, ', "', i.txn_id,
                '", "', i.kind, '", "', i.from_leg, '", "', i.to_leg, '", ', i.amount, ', ',
                coalesce(i.bucket_id::text, 'null'), ', ', coalesce('"' || i.hold_id::text || '"', 'null'), ', ',
                to_json(i.actor), ', ', i.posted_after, ', ', i.held_after, ', ', i.overdraft_used_after, ', ',
                i.overdraft_held_after, ', ', (extract(EPOCH FROM i.at) * 1000000)::bigint,
                ', ' || i.detail::text, ']'), 'UTF8')) AS changed,
            i.posted_after <> i.posted_before + CASE WHEN i.to_leg IN ('available', 'held') THEN i.amount ELSE 0 END
                - CASE WHEN i.from_leg IN ('available', 'held') THEN i.amount ELSE 0 END
            OR i.held_after <> i.held_before + CASE WHEN i.to_leg = 'held' THEN i.amount ELSE 0 END
                - CASE WHEN i.from_leg = 'held' THEN i.amount ELSE 0 END
            OR i.overdraft_used_after <> i.overdraft_used_before
                - CASE WHEN i.to_leg IN ('overdraft', 'overdraft_held') THEN i.amount ELSE 0 END
                + CASE WHEN i.from_leg IN ('overdraft', 'overdraft_held') THEN i.amount ELSE 0 END
            OR i.overdraft_held_after <> i.overdraft_held_before
                + CASE WHEN i.to_leg = 'overdraft_held' THEN i.amount ELSE 0 END
                - CASE WHEN i.from_leg = 'overdraft_held' THEN i.amount ELSE 0 END AS unbalanced,
            NOT CASE i.kind
                WHEN 'grant' THEN i.from_leg = 'issued' AND i.to_leg = 'available'
                WHEN 'reserve' THEN (i.from_leg, i.to_leg) IN (('available', 'held'), ('overdraft', 'overdraft_held'))
                    AND i.hold_id IS NOT NULL
                WHEN 'capture' THEN i.from_leg IN ('held', 'overdraft_held', 'available', 'overdraft')
                    AND i.to_leg = 'revenue' AND i.hold_id IS NOT NULL
                WHEN 'release' THEN (i.from_leg, i.to_leg) IN (('held', 'available'), ('overdraft_held', 'overdraft'))
                    AND i.hold_id IS NOT NULL
                WHEN 'lapse' THEN (i.from_leg, i.to_leg) IN (('held', 'available'), ('overdraft_held', 'overdraft'))
                    AND i.hold_id IS NOT NULL
                WHEN 'expire' THEN i.from_leg = 'available' AND i.to_leg = 'expired'
                WHEN 'repay' THEN i.from_leg = 'available' AND i.to_leg = 'overdraft'
                WHEN 'adjust' THEN (i.from_leg, i.to_leg) IN (('issued', 'available'), ('available', 'reversed'))
                WHEN 'reverse' THEN (i.from_leg, i.to_leg) IN (('available', 'reversed'), ('revenue', 'available'))
            END AS unlawful
        FROM (
            SELECT e.*, lag(e.seq, 1, u.seq) OVER s AS seq_before, lag(e.hash, 1, u.hash) OVER s AS hash_before,
                lag(e.posted_after, 1, u.posted) OVER s AS posted_before,
                lag(e.held_after, 1, u.held) OVER s AS held_before,
                lag(e.overdraft_used_after, 1, u.overdraft_used) OVER s AS overdraft_used_before,
                lag(e.overdraft_held_after, 1, u.overdraft_held) OVER s AS overdraft_held_before
            FROM (
                SELECT * FROM credit_entries r WHERE r.user_id = u.user_id AND r.seq > u.seq ORDER BY r.seq LIMIT $8
            ) e
            WINDOW s AS (ORDER BY e.seq)
        ) i
    ) j
) w
LEFT JOIN credit_entries l ON l.user_id = u.user_id AND l.seq = w.last;

-- name: check_buckets
-- I2, I6: a bucket is one grant and what moved since, on the terms of that grant, unless an operation moved its end: a
-- day that is longer elsewhere, or a reversal, which ends it there and then and never later.
WITH moved AS (
    SELECT user_id, bucket_id, count(*) FILTER (WHERE from_leg IN ('issued', 'revenue')) AS grants, min(seq) AS first,
        sum(amount) FILTER (WHERE from_leg IN ('issued', 'revenue')) AS granted,
        sum(CASE WHEN to_leg = 'available' THEN amount WHEN from_leg = 'available' THEN -amount ELSE 0 END) AS remaining,
        sum(CASE WHEN to_leg = 'held' THEN amount WHEN from_leg = 'held' THEN -amount ELSE 0 END) AS held,
        count(*) FILTER (WHERE to_leg = 'reversed' AND kind = 'reverse') AS reversals,
        min(at) FILTER (WHERE kind = 'expire') AS expired_at
    FROM credit_entries WHERE user_id = ANY ($1) AND bucket_id IS NOT NULL GROUP BY user_id, bucket_id
), ends AS (
    -- by the latest act that moved the end, and by all of them
    SELECT user_id, bucket_id, min(expires_at COLLATE "C") FILTER (WHERE age = 1) AS latest, array_agg(expires_at) AS ever
    FROM (
        SELECT o.scope AS user_id, b.bucket_id, coalesce(t.bucket ->> 'expires_at', 'never') AS expires_at,
            rank() OVER (PARTITION BY b.bucket_id ORDER BY o.act_seq DESC) AS age
        FROM credit_operations o
        CROSS JOIN LATERAL (
            SELECT o.outcome AS bucket
            UNION ALL
            SELECT b.value FROM jsonb_array_elements(
                CASE jsonb_typeof(o.outcome -> 'buckets') WHEN 'array' THEN o.outcome -> 'buckets' ELSE '[]' END) b
        ) t
        INNER JOIN credit_buckets b ON b.user_id = o.scope AND b.bucket_id::text = t.bucket ->> 'bucket_id'
        WHERE o.scope = ANY ($1) AND o.act_seq IS NOT NULL AND o.kind IN ('reverse', 'set-time-zone')
            AND t.bucket ? 'expires_at'
            AND (o.kind = 'set-time-zone' OR t.bucket ->> 'expires_at' <= public.ledger_moment(
                greatest(o.created_at, b.effective_at + interval '1 microsecond')) COLLATE "C")
    ) e
    GROUP BY user_id, bucket_id
)
SELECT f.kind, 'credit_buckets' AS "table", coalesce(m.bucket_id, b.bucket_id)::text AS key,
    coalesce(m.user_id, b.user_id) AS user_id,
    jsonb_build_object('row', to_jsonb(b) - 'user_id', 'entries', to_jsonb(m) - 'user_id' - 'first',
        'terms', g.detail, 'end_moved_to', n.latest)::text AS detail
FROM moved m
FULL JOIN (SELECT * FROM credit_buckets k WHERE k.user_id = ANY ($1)) b USING (user_id, bucket_id)
LEFT JOIN (SELECT * FROM user_billing u WHERE u.user_id = ANY ($1)) a ON a.user_id = b.user_id
-- OFFSET 0: one look by the primary key for each, whatever the planner expects
LEFT JOIN LATERAL (
    SELECT * FROM credit_entries e WHERE e.user_id = m.user_id AND e.seq = m.first OFFSET 0
) g ON true
LEFT JOIN ends n ON n.user_id = m.user_id AND n.bucket_id = m.bucket_id
CROSS JOIN LATERAL (VALUES
    ('bucket-missing', b.remaining IS NULL),
    ('bucket-unfounded', m.grants IS NULL OR m.grants = 0),
    ('bucket-differs', (b.granted, b.remaining, b.held) <> (m.granted, m.remaining, m.held) OR m.grants > 1
        OR b.live <> (b.remaining + b.held > 0)),
    ('bucket-terms', g.detail ? 'source_ref' AND (
        b.created_at <> g.at
        OR jsonb_strip_nulls(jsonb_build_object('kind', b.kind, 'source_ref', b.source_ref, 'priority', b.priority,
            'effective_at', public.ledger_moment(b.effective_at), 'paid_amount', b.paid_amount,
            'paid_currency', b.paid_currency)) <> g.detail - 'expires_at' - 'reason'
        OR coalesce(public.ledger_moment(b.expires_at), 'never')
            <> coalesce(n.latest, g.detail ->> 'expires_at', 'never'))),
    ('grant-reversed-twice', m.reversals > 1),
    -- 'never' comes after every moment
    ('bucket-expired-early', g.detail ? 'source_ref' AND m.expired_at IS NOT NULL
        AND public.ledger_moment(m.expired_at) COLLATE "C"
            < ALL (coalesce(g.detail ->> 'expires_at', 'never') || coalesce(n.ever, '{}'))),
    ('bucket-forgotten', b.remaining > 0 AND b.expires_at < coalesce(a.due_at, 'infinity'))
) AS f (kind, wrong)
WHERE f.wrong;

-- name: check_daily
-- Daily credits ask for no operation. They are of the date it was where the person was, until its end there, and as many as
-- their plan gave: by what was in force at that entry.
WITH plans AS MATERIALIZED (SELECT * FROM public.ledger_plans_over_time())
SELECT 'daily-unfounded' AS kind, 'credit_buckets' AS "table", g.bucket_id::text AS key, g.user_id,
    jsonb_build_object('granted', g.detail, 'amount', g.amount, 'at', g.at, 'plan', t.plan, 'time_zone', t.zone)::text AS detail
FROM (
    SELECT e.user_id, e.seq, e.at, e.amount, e.bucket_id, e.detail FROM credit_entries e
    WHERE e.user_id = ANY ($1) AND e.kind = 'grant' AND e.actor = 'system' AND e.detail ->> 'kind' = 'daily'
) g
CROSS JOIN LATERAL (
    SELECT coalesce((
            SELECT o.outcome -> 'after' ->> 'plan' FROM credit_operations o
            WHERE o.scope = g.user_id AND o.act_seq IS NOT NULL AND o.after_seq < g.seq AND o.kind IN ('open', 'set-terms')
            ORDER BY o.act_seq DESC LIMIT 1
        ), public.ledger_usual_terms() ->> 'plan') AS plan,
        coalesce((
            SELECT CASE o.kind WHEN 'set-time-zone' THEN o.outcome ->> 'after' ELSE o.outcome -> 'after' ->> 'time_zone' END
            FROM credit_operations o
            WHERE o.scope = g.user_id AND o.act_seq IS NOT NULL AND o.after_seq < g.seq
                AND o.kind IN ('open', 'set-terms', 'set-time-zone')
            ORDER BY o.act_seq DESC LIMIT 1
        ), public.ledger_usual_terms() ->> 'time_zone') AS zone
    -- each is looked up once
    OFFSET 0
) t
LEFT JOIN plans p ON p.plan = t.plan AND p.terms -> 'daily_credits' = to_jsonb(g.amount) AND g.at BETWEEN p.since AND p.until
WHERE p.plan IS NULL OR g.detail ->> 'effective_at' IS DISTINCT FROM public.ledger_moment(g.at)
    OR public.ledger_day_fits(g.detail ->> 'source_ref', g.detail ->> 'expires_at', g.at, t.zone) IS NOT true
GROUP BY g.user_id, g.bucket_id, g.detail, g.amount, g.at, t.plan, t.zone;

-- name: check_parts
-- I4: while a hold is open nothing of what it took is charged or given back, and in the end all of it is, to the bucket it
-- was taken from.
SELECT 'part-differs' AS kind, 'credit_holds' AS "table", h.hold_id::text AS key, h.user_id,
    jsonb_agg(jsonb_build_object('bucket_id', m.bucket_id, 'reserved', m.reserved, 'captured', m.captured,
        'released', m.released) ORDER BY m.bucket_id)::text AS detail
FROM (
    SELECT user_id, hold_id, bucket_id,
        coalesce(sum(amount) FILTER (WHERE kind = 'reserve'), 0) AS reserved,
        coalesce(sum(amount) FILTER (WHERE kind = 'capture'), 0) AS captured,
        coalesce(sum(amount) FILTER (WHERE kind IN ('release', 'lapse')), 0) AS released
    FROM credit_entries
    WHERE user_id = ANY ($1) AND hold_id IS NOT NULL
        AND (kind = 'reserve' OR from_leg IN ('held', 'overdraft_held'))
    GROUP BY user_id, hold_id, bucket_id
) m
INNER JOIN (SELECT * FROM credit_holds q WHERE q.user_id = ANY ($1)) h USING (user_id, hold_id)
WHERE m.captured + m.released <> CASE h.state WHEN 'open' THEN 0 ELSE m.reserved END
GROUP BY h.user_id, h.hold_id;

-- name: check_holds
-- I4, I5, I8, I9: a hold is what was asked for, at the catalogue's price, and what its entries did with it.
WITH moved AS (
    SELECT user_id, hold_id::text AS hold, max(at) FILTER (WHERE kind = 'reserve') AS created_at,
        min(seq) FILTER (WHERE kind = 'reserve') AS first_seq, max(seq) FILTER (WHERE kind = 'reserve') AS last_seq,
        max(at) FILTER (WHERE from_leg IN ('held', 'overdraft_held')) AS settled_at,
        coalesce(sum(amount) FILTER (WHERE kind = 'reserve'), 0) AS quoted,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'revenue' AND from_leg IN ('held', 'overdraft_held')), 0) AS captured,
        coalesce(sum(amount) FILTER (WHERE kind IN ('release', 'lapse')), 0) AS released,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'revenue' AND from_leg IN ('available', 'overdraft')), 0)
            AS late_captured,
        bool_or(kind = 'lapse') AS lapsed,
        sum(amount) FILTER (WHERE kind = 'reverse') AS refunded, count(*) FILTER (WHERE kind = 'reverse') AS refunds
    FROM credit_entries WHERE user_id = ANY ($1) AND hold_id IS NOT NULL GROUP BY user_id, hold_id
), asked AS MATERIALIZED (
    SELECT user_id, hold, h.state, h.quoted, h.captured, h.released, h.late_captured, h.late, h.final, h.price, h.created_at,
        h.expires_at, h.settled_at, h.first_seq, h.last_seq, o.request_hash, o.ends_at, o.reserves, o.settlements,
        o.settled,
        -- the text that ledger_reserve hashed
        o.request_hash = sha256(convert_to(
            concat('["reserve", "', h.generation_id, '", ', h.quoted, ', ', h.price, ']'), 'UTF8')) AS as_asked
    FROM (
        SELECT user_id, hold_id::text AS hold, generation_id, state, quoted, captured, released, late_captured, late,
            final, price, created_at, expires_at, settled_at, first_seq, last_seq
        FROM credit_holds WHERE user_id = ANY ($1)
    ) h
    FULL JOIN (
        SELECT q.scope AS user_id, q.outcome ->> 'hold_id' AS hold, count(*) FILTER (WHERE q.kind = 'reserve') AS reserves,
            count(*) FILTER (WHERE q.kind <> 'reserve') AS settlements,
            min(concat_ws(' ', q.outcome ->> 'captured', q.outcome ->> 'released', q.outcome ->> 'late')
                COLLATE "C") FILTER (WHERE q.kind <> 'reserve') AS settled,
            (array_agg(q.request_hash) FILTER (WHERE q.kind = 'reserve'))[1] AS request_hash,
            min(q.outcome ->> 'expires_at') FILTER (WHERE q.kind = 'reserve') AS ends_at
        FROM credit_operations q
        WHERE q.scope = ANY ($1) AND q.kind IN ('reserve', 'capture', 'release') AND q.outcome ->> 'hold_id' IS NOT NULL
        GROUP BY q.scope, q.outcome ->> 'hold_id'
    ) o USING (user_id, hold)
), misfits AS MATERIALIZED (
    -- Prices repeat: each is looked at once. Only what was really asked for, so that it can be read.
    SELECT p.price
    FROM (SELECT a.price FROM asked a WHERE a.as_asked AND a.price ? 'price_version' GROUP BY a.price) p
    LEFT JOIN price_versions v ON to_jsonb(v.version) = p.price -> 'price_version'
    -- a version that was edited is named itself, and not asked
    WHERE v.version IS NULL OR CASE
        WHEN v.hash = public.price_hash(v.previous_hash, v) THEN public.price_fits(p.price, v) IS NOT true ELSE false END
), judged AS (
    SELECT user_id, hold, m, h,
        h.quoted IS NULL AS missing,
        h.quoted IS NOT NULL AND (h.request_hash IS NULL OR (m.quoted IS NULL AND h.quoted > 0)) AS unfounded,
        (h.quoted, h.captured, h.released, h.late_captured) <> (m.quoted, m.captured, m.released, m.late_captured)
        OR h.created_at <> m.created_at OR h.settled_at <> m.settled_at
        OR h.first_seq <> m.first_seq OR h.last_seq <> m.last_seq
        -- holds that had ended before holds named their entries name none
        OR (h.state = 'open' AND h.quoted > 0 AND (h.first_seq IS NULL OR h.last_seq IS NULL))
        OR (m.quoted > 0 AND CASE
            WHEN m.lapsed THEN h.state <> 'expired'
            WHEN m.captured > 0 THEN h.state <> 'captured'
            WHEN m.released > 0 THEN h.state NOT IN ('captured', 'released')
            ELSE h.state <> 'open' END)
        -- one operation made it, and one ended it for good
        OR h.reserves > 1 OR h.settlements <> h.final::int
        OR (h.final AND h.settled IS DISTINCT FROM concat_ws(' ', h.captured + h.late_captured,
            h.quoted - h.captured - h.late_captured, h.late::text))
        -- before 2026-11-27 reserves did not answer when their hold ends, and some of that day did as a date
        OR (h.ends_at <> extract(epoch FROM h.expires_at)::text
            AND h.ends_at <> coalesce(public.ledger_moment(h.expires_at), 'never'))
        OR (m.lapsed AND h.settled_at < h.expires_at) AS differs,
        h.quoted IS NOT NULL AND NOT h.as_asked AS request,
        -- its total is what was promised; holds from before there were totals have none
        h.as_asked AND (h.price -> 'total' <> to_jsonb(h.quoted) OR h.price IN (SELECT x.price FROM misfits x))
            AS mispriced,
        m.refunds > 1 OR m.refunded > m.captured + m.late_captured AS refunded_twice,
        h.state = 'open' AND h.expires_at < coalesce(a.holds_due_at, 'infinity') AS forgotten,
        h.state = 'open' AND h.expires_at < coalesce($2::timestamptz, now()) - $3::interval AS overdue
    FROM moved m
    FULL JOIN asked h USING (user_id, hold)
    LEFT JOIN (SELECT u.user_id, u.holds_due_at FROM user_billing u WHERE u.user_id = ANY ($1)) a USING (user_id)
)
SELECT f.kind, 'credit_holds' AS "table", j.hold AS key, j.user_id,
    jsonb_build_object('row', to_jsonb(j.h) - 'user_id' - 'hold' - 'request_hash',
        'entries', to_jsonb(j.m) - 'user_id' - 'hold')::text AS detail
FROM judged j
CROSS JOIN LATERAL (VALUES
    ('hold-missing', j.missing), ('hold-unfounded', j.unfounded), ('hold-differs', j.differs),
    ('hold-request', j.request), ('hold-price', j.mispriced), ('charge-refunded-twice', j.refunded_twice),
    ('hold-forgotten', j.forgotten), ('hold-overdue', j.overdue)
) AS f (kind, wrong)
WHERE f.wrong AND (j.missing OR j.unfounded OR j.differs OR j.request OR j.mispriced OR j.refunded_twice OR j.forgotten
    OR j.overdue);

-- name: check_operations
-- I6, I7: every operation answered what its entries did, and every entry that somebody must have asked for has one. Only a
-- denial, and what was granted before under another key, name no transaction.
WITH plans AS MATERIALIZED (SELECT * FROM public.ledger_plans_over_time()), done AS (
    SELECT user_id, txn_id::text AS txn, min(seq) AS first, max(at) AS at,
        coalesce(sum(amount) FILTER (WHERE from_leg IN ('issued', 'revenue')), 0) AS gives,
        coalesce(sum(amount) FILTER (WHERE kind = 'reserve'), 0) AS reserves,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'revenue'), 0) AS charges,
        coalesce(sum(amount) FILTER (WHERE kind IN ('release', 'lapse')), 0) AS returns,
        coalesce(sum(amount) FILTER (WHERE to_leg = 'reversed'), 0) AS takes,
        bool_or(to_leg = 'overdraft_held') AS lends,
        min(bucket_id) FILTER (WHERE from_leg IN ('issued', 'revenue') OR kind = 'reverse') AS bucket_id,
        min(hold_id::text COLLATE "C") AS hold,
        min(actor COLLATE "C") FILTER (WHERE kind NOT IN ('expire', 'repay')) AS actor,
        min(detail ->> 'reason') AS reason,
        bool_or(kind IN ('reserve', 'capture', 'release', 'adjust', 'reverse')
            OR (kind = 'grant' AND NOT (actor = 'system' AND coalesce(detail ->> 'kind' = 'daily', false)))) AS needs,
        -- the balances after the last of them
        max(ARRAY[seq, posted_after, held_after + overdraft_held_after, overdraft_used_after, overdraft_held_after])
            AS last
    FROM credit_entries WHERE user_id = ANY ($1) GROUP BY user_id, txn_id
), asked AS (
    SELECT scope AS user_id, key, kind AS operation, outcome, created_at, actor AS operator, detail,
        outcome ->> 'txn_id' AS txn, outcome ->> 'hold_id' AS hold, outcome -> 'balance' AS balance
    FROM credit_operations
    WHERE scope = ANY ($1) AND kind IN ('grant', 'reserve', 'capture', 'release', 'adjust', 'reverse')
        AND NOT (kind = 'reserve' AND outcome @> '{"outcome": "denied", "hold_id": null}')
    -- each value is taken out of the answer once
    OFFSET 0
), judged AS (
    SELECT user_id, t, o, t.first, o.key,
        o.key IS NULL AND t.needs AS unanswered,
        o.key IS NOT NULL AND ((CASE
            -- what was granted before; it names no transaction
            WHEN o.operation = 'grant' AND o.txn IS NULL THEN (user_id, o.outcome ->> 'bucket_id', o.outcome ->> 'amount') IN (
                SELECT b.user_id, b.bucket_id::text, b.granted::text FROM credit_buckets b WHERE b.user_id = ANY ($1))
            WHEN o.operation = 'grant' THEN o.outcome ->> 'amount' = t.gives::text AND o.outcome ->> 'bucket_id' = t.bucket_id::text
            WHEN o.operation = 'reserve' THEN o.outcome ->> 'outcome' = 'held' AND o.hold IS NOT NULL AND o.txn IS NOT NULL
            -- how much is compared with the hold
            WHEN o.operation IN ('capture', 'release') THEN o.hold IS NOT NULL AND o.txn IS NOT NULL
            WHEN o.operation = 'adjust' THEN o.outcome ->> 'amount' = (t.gives - t.takes)::text
            -- what is spent, or held, cannot be taken
            ELSE o.outcome ->> 'amount' = coalesce(t.gives - t.takes, 0)::text AND o.txn IS NOT NULL
                AND (t.bucket_id IS NULL OR o.outcome ->> 'bucket_id' = t.bucket_id::text)
        END) IS NOT true
        OR CASE o.operation
            WHEN 'reserve' THEN t.gives + t.charges + t.returns + t.takes
            WHEN 'capture' THEN t.gives + t.reserves + t.takes
            WHEN 'release' THEN t.gives + t.reserves + t.takes + t.charges
            ELSE t.reserves + t.charges + t.returns END > 0
        OR o.operator IS DISTINCT FROM CASE o.operation
            WHEN 'reserve' THEN user_id WHEN 'capture' THEN 'system' WHEN 'release' THEN 'system'
            ELSE coalesce(t.actor, o.operator) END
        OR (t.first IS NOT NULL AND (
            -- what is tidied beside a free hold is of none
            (t.hold IS NOT NULL AND o.hold IS DISTINCT FROM t.hold) OR o.created_at <> t.at
            OR t.reason IS DISTINCT FROM o.detail ->> 'reason'
            OR (o.balance ->> 'posted', o.balance ->> 'held', o.balance ->> 'overdraft_used')
                IS DISTINCT FROM (t.last[2]::text, t.last[3]::text, t.last[4]::text)))) AS differs,
        t.lends AND o.operation = 'reserve' AND NOT EXISTS (
            SELECT FROM (SELECT coalesce((
                SELECT q.outcome -> 'after' FROM credit_operations q
                WHERE q.scope = user_id AND q.act_seq IS NOT NULL AND q.after_seq < t.first AND q.kind IN ('open', 'set-terms')
                ORDER BY q.act_seq DESC LIMIT 1
            ), public.ledger_usual_terms()) AS own) a
            INNER JOIN plans p ON p.plan = a.own ->> 'plan' AND t.at BETWEEN p.since AND p.until
            WHERE coalesce(a.own ->> 'policy', p.terms ->> 'policy') = 'off'
                OR (coalesce(a.own ->> 'policy', p.terms ->> 'policy') = 'soft'
                    AND coalesce(nullif(a.own -> 'overdraft_limit', 'null'), p.terms -> 'overdraft_limit')
                        >= to_jsonb(t.last[4] + t.last[5]))) AS beyond_limit
    FROM done t FULL JOIN asked o USING (user_id, txn)
)
SELECT f.kind, f.found_in AS "table", j.user_id || '/' || f.key AS key, j.user_id,
    jsonb_build_object('operation', to_jsonb(j.o) - 'user_id', 'entries', to_jsonb(j.t) - 'user_id')::text AS detail
FROM judged j
CROSS JOIN LATERAL (VALUES
    ('entry-unanswered', 'credit_entries', j.first::text, j.unanswered),
    ('operation-differs', 'credit_operations', j.key, j.differs),
    ('overdraft-beyond-limit', 'credit_operations', j.key, j.beyond_limit)
) AS f (kind, found_in, key, wrong)
WHERE f.wrong AND (j.unanswered OR j.differs OR j.beyond_limit);

-- name: check_repeats
-- I6: no two operations did the same. Those of holds are counted with their hold.
SELECT 'operation-repeated' AS kind, 'credit_operations' AS "table", o.scope || '/' || o.key AS key, o.scope AS user_id,
    jsonb_build_object('txn_id', o.outcome -> 'txn_id', 'kind', o.kind, 'times', o.times)::text AS detail
FROM (
    SELECT r.scope, r.key, r.kind, r.outcome, count(*) OVER (PARTITION BY r.scope, r.outcome ->> 'txn_id') AS times
    FROM credit_operations r
    WHERE r.scope = ANY ($1) AND r.act_seq IS NOT NULL AND r.outcome ? 'txn_id'
) o
WHERE o.times > 1;

-- name: check_acts
-- What people did is a chain in each scope. Each act is judged by the one before it as stored; behind a gap there is nothing
-- to judge it by. It ends where the scope says that it stands.
WITH chain AS (
    SELECT c.scope, c.key, c.kind, c.created_at, c.actor, c.detail, c.outcome, c.act_seq, c.after_seq, c.act_hash, c AS act,
        lag(c.act_seq, 1, 0::bigint) OVER w AS seq_before,
        lag(c.act_hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS hash_before,
        lead(c.act_seq) OVER w IS NULL AS is_last
    FROM credit_operations c
    WHERE c.scope = ANY ($1) AND c.kind NOT IN ('reserve', 'capture', 'release')
    WINDOW w AS (PARTITION BY c.scope ORDER BY c.act_seq, c.key)
)
SELECT f.kind, 'credit_operations' AS "table", o.scope || '/' || o.key AS key,
    CASE WHEN o.scope NOT IN ('plans', 'prices') THEN o.scope END AS user_id,
    (to_jsonb(o) - '{act,scope,key,is_last}'::text[])::text AS detail
FROM chain o
CROSS JOIN LATERAL (VALUES
    ('operation-missing', o.act_seq <> o.seq_before + 1),
    ('operation-changed', coalesce(
        o.act_seq = o.seq_before + 1 AND o.act_hash <> public.ledger_act_hash(o.hash_before, o.act), true))
) AS f (kind, wrong)
WHERE f.wrong
UNION ALL
SELECT 'operation-missing', 'credit_acts', scope, CASE WHEN scope NOT IN ('plans', 'prices') THEN scope END,
    jsonb_build_object('stands', s.act_seq, 'last', l.act_seq)::text
FROM (SELECT * FROM credit_acts a WHERE a.scope = ANY ($1)) s
FULL JOIN (SELECT c.scope, c.act_seq, c.act_hash FROM chain c WHERE c.is_last) l USING (scope)
WHERE (s.act_seq, s.act_hash) IS DISTINCT FROM (l.act_seq, l.act_hash);

-- name: check_generations
-- I11: a generation is over exactly when its hold is, for the same person and the same price.
SELECT 'generation-differs' AS kind, 'generations' AS "table", g.id::text AS key, g.user_id,
    jsonb_build_object('generation', jsonb_build_array(g.state, g.quoted, g.charged, g.retries),
        'hold', jsonb_build_array(h.hold_id, h.state, h.final, h.quoted, h.captured + h.late_captured, h.round))::text
        AS detail
FROM generations g LEFT JOIN credit_holds h ON h.hold_id = g.hold_id
WHERE g.user_id = ANY ($1) AND (
    (h.user_id, h.generation_id, h.quoted, h.round, h.final)
        IS DISTINCT FROM (g.user_id, g.id, g.quoted, g.retries + 1, generation_is_terminal(g.state))
    OR (h.final AND g.charged IS DISTINCT FROM h.captured + h.late_captured));

-- name: check_rounds
-- I11: a generation has one hold at a time. Each but the first follows one that had ended and was not charged, and the
-- last one is the generation's.
SELECT 'hold-beside-another' AS kind, 'credit_holds' AS "table", h.hold_id::text AS key, h.user_id,
    jsonb_build_object('generation_id', h.generation_id, 'round', h.round, 'generation', g.hold_id,
        'before', jsonb_build_array(b.hold_id, b.state, b.final, b.captured + b.late_captured))::text AS detail
FROM credit_holds h
LEFT JOIN credit_holds b ON b.generation_id = h.generation_id AND b.round = h.round - 1
LEFT JOIN generations g ON g.id = h.generation_id
WHERE h.user_id = ANY ($1) AND h.round > 1
    AND ((b.user_id, b.final, b.captured + b.late_captured) IS DISTINCT FROM (h.user_id, true, 0::bigint)
        OR g.retries + 1 < h.round);

-- name: check_orphans
-- I11: a hold pays for a generation of the same person.
SELECT 'hold-orphaned' AS kind, 'credit_holds' AS "table", h.hold_id::text AS key, h.user_id,
    jsonb_build_object('generation_id', h.generation_id, 'state', h.state, 'of', g.user_id)::text AS detail
FROM credit_holds h LEFT JOIN generations g ON g.id = h.generation_id
WHERE h.user_id = ANY ($1) AND g.user_id IS DISTINCT FROM h.user_id;

-- name: check_accounts
-- What an account remembers beside its balances: its terms, the day it was last given, the warnings it was told.
WITH daily AS (
    SELECT DISTINCT ON (user_id) user_id, detail ->> 'source_ref' AS day FROM credit_entries
    WHERE user_id = ANY ($1) AND kind = 'grant' AND actor = 'system' AND detail ->> 'kind' = 'daily'
    ORDER BY user_id, seq DESC
), terms AS (
    SELECT DISTINCT ON (scope) scope AS user_id, outcome -> 'after' AS said FROM credit_operations
    WHERE scope = ANY ($1) AND act_seq IS NOT NULL AND kind IN ('open', 'set-terms') ORDER BY scope, act_seq DESC
), zones AS (
    SELECT DISTINCT ON (scope) scope AS user_id,
        CASE kind WHEN 'set-time-zone' THEN outcome ->> 'after' ELSE outcome -> 'after' ->> 'time_zone' END AS zone
    FROM credit_operations
    WHERE scope = ANY ($1) AND act_seq IS NOT NULL AND kind IN ('open', 'set-terms', 'set-time-zone')
    ORDER BY scope, act_seq DESC
), warnings AS (
    SELECT w.user_id, max(w.level) AS highest,
        -- credits that came in since may have taken it back; clocks may step back
        max(w.level) FILTER (WHERE w.at - interval '1 minute' > coalesce(b.last, '-infinity')) AS standing
    FROM (
        SELECT user_id, at, CASE code WHEN 'overdraft' THEN 2 ELSE 1 END AS level
        FROM credit_warnings WHERE user_id = ANY ($1)
    ) w
    LEFT JOIN (
        SELECT user_id, max(greatest(created_at, effective_at)) AS last
        FROM credit_buckets WHERE user_id = ANY ($1) GROUP BY user_id
    ) b USING (user_id)
    GROUP BY w.user_id
)
SELECT f.kind, 'user_billing' AS "table", a.user_id AS key, a.user_id,
    jsonb_build_object('row', public.ledger_terms_json(a), 'daily_granted_on', a.daily_granted_on, 'warned', a.warned,
        'terms', i.said, 'zone', i.zone, 'day', d.day, 'warnings', to_jsonb(w) - 'user_id')::text AS detail
FROM user_billing a
LEFT JOIN daily d USING (user_id)
LEFT JOIN terms t USING (user_id)
LEFT JOIN zones z USING (user_id)
LEFT JOIN warnings w USING (user_id)
CROSS JOIN LATERAL (
    -- an account was opened on the usual terms unless it is said
    SELECT coalesce(t.said, u.terms) AS said, coalesce(z.zone, u.terms ->> 'time_zone') AS zone
    FROM public.ledger_usual_terms() AS u (terms)
) i
CROSS JOIN LATERAL (VALUES
    ('account-daily', to_char(a.daily_granted_on, 'YYYY-MM-DD') IS DISTINCT FROM d.day),
    ('account-terms', public.ledger_terms_json(a) IS DISTINCT FROM i.said || jsonb_build_object('time_zone', i.zone)
        OR a.plan NOT IN (SELECT p.plan FROM credit_plans p)),
    ('account-warned', a.warned < coalesce(w.standing, 0) OR a.warned > coalesce(w.highest, 0))
) AS f (kind, wrong)
WHERE a.user_id = ANY ($1) AND f.wrong;

-- name: check_warnings
-- A warning was told by the operation of its moment, of what that left.
SELECT 'warning-unanswered' AS kind, 'credit_warnings' AS "table", w.warning_id::text AS key, w.user_id,
    to_jsonb(w)::text AS detail
FROM credit_warnings w
WHERE w.user_id = ANY ($1) AND NOT EXISTS (
    SELECT FROM credit_operations o
    WHERE o.scope = ANY ($1) AND o.scope = w.user_id AND o.created_at = w.at
        AND o.kind IN ('reserve', 'capture', 'adjust', 'reverse')
        AND o.outcome -> 'balance' -> 'available' = to_jsonb(w.available));

-- name: find_strays
-- Rows of people who have no account, with a key above $1 and up to $2 (NULL: all); of $3 alone, if it is given.
SELECT 'account-missing' AS kind, 'user_billing' AS "table", s.user_id AS key, s.user_id,
    jsonb_build_object('found_in', jsonb_agg(s.found_in ORDER BY s.found_in))::text AS detail
FROM (
    SELECT DISTINCT e.user_id, 'credit_entries' AS found_in FROM credit_entries e
    WHERE e.user_id > $1 AND ($2::text IS NULL OR e.user_id <= $2) AND ($3::text IS NULL OR e.user_id = $3)
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = e.user_id)
    UNION ALL
    SELECT DISTINCT b.user_id, 'credit_buckets' FROM credit_buckets b
    WHERE b.user_id > $1 AND ($2::text IS NULL OR b.user_id <= $2) AND ($3::text IS NULL OR b.user_id = $3)
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = b.user_id)
    UNION ALL
    SELECT DISTINCT h.user_id, 'credit_holds' FROM credit_holds h
    WHERE h.user_id > $1 AND ($2::text IS NULL OR h.user_id <= $2) AND ($3::text IS NULL OR h.user_id = $3)
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = h.user_id)
    UNION ALL
    SELECT DISTINCT w.user_id, 'credit_warnings' FROM credit_warnings w
    WHERE w.user_id > $1 AND ($2::text IS NULL OR w.user_id <= $2) AND ($3::text IS NULL OR w.user_id = $3)
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = w.user_id)
    UNION ALL
    SELECT DISTINCT g.user_id, 'generations' FROM generations g
    WHERE g.user_id > $1 AND ($2::text IS NULL OR g.user_id <= $2) AND ($3::text IS NULL OR g.user_id = $3)
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = g.user_id)
    UNION ALL
    SELECT c.scope, 'credit_acts' FROM credit_acts c
    WHERE c.scope > $1 AND ($2::text IS NULL OR c.scope <= $2) AND ($3::text IS NULL OR c.scope = $3) AND c.scope NOT IN ('plans', 'prices')
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = c.scope)
    UNION ALL
    SELECT DISTINCT o.scope, 'credit_operations' FROM credit_operations o
    WHERE o.scope > $1 AND ($2::text IS NULL OR o.scope <= $2) AND ($3::text IS NULL OR o.scope = $3) AND o.scope NOT IN ('plans', 'prices')
        AND NOT EXISTS (SELECT FROM user_billing a WHERE a.user_id = o.scope)
) s
GROUP BY s.user_id;

-- name: check_prices
-- I9: the price list is the chain that was added to, and has every version that somebody added, and no other.
SELECT f.kind, 'price_versions' AS "table", v.version::text AS key, NULL AS user_id, to_jsonb(v)::text AS detail
FROM (
    SELECT p.version, p.created_by, p.hash, p.previous_hash, public.price_hash(p.previous_hash, p) AS derived,
        lag(p.hash, 1, decode(repeat('00', 32), 'hex')) OVER (ORDER BY p.version) AS hash_before
    FROM price_versions p
) v
CROSS JOIN LATERAL (VALUES
    ('price-changed', v.hash <> v.derived), ('price-missing', v.previous_hash <> v.hash_before)
) AS f (kind, wrong)
WHERE f.wrong
UNION ALL
SELECT CASE WHEN o.key IS NULL THEN 'price-unanswered' ELSE 'price-missing' END, 'price_versions',
    coalesce(p.version::text, o.outcome ->> 'version'), NULL, coalesce(to_jsonb(o), to_jsonb(p))::text
FROM (SELECT * FROM credit_operations WHERE scope = 'prices' AND kind = 'price') o
FULL JOIN price_versions p ON to_jsonb(p.version) = o.outcome -> 'version'
WHERE o.key IS NULL OR encode(p.hash, 'hex') IS DISTINCT FROM o.outcome ->> 'hash';

-- name: check_plans
-- A plan is what was last said about it, and until something is, what a new plan is.
SELECT 'plan-differs' AS kind, 'credit_plans' AS "table", plan AS key, NULL AS user_id,
    jsonb_build_object('row', to_jsonb(p), 'said', s.said)::text AS detail
FROM (
    SELECT DISTINCT ON (o.outcome -> 'after' ->> 'plan') o.outcome -> 'after' ->> 'plan' AS plan, o.outcome -> 'after' AS said
    FROM credit_operations o
    WHERE o.scope = 'plans' AND o.act_seq IS NOT NULL AND o.kind = 'set-plan'
    ORDER BY o.outcome -> 'after' ->> 'plan', o.act_seq DESC
) s
FULL JOIN credit_plans p USING (plan)
-- a plan of which nothing is said is the first one; what was said before there was a column says nothing of it
WHERE to_jsonb(p) IS DISTINCT FROM public.ledger_new_plan(plan) || coalesce(s.said, '{}') OR (s.plan IS NULL AND plan <> 'free');

-- name: check_guards
-- What refuses to change history is there, and on, and does that: the body of its function is the one that was written for
-- it, by SHA-256, and it goes off BEFORE, once a statement, on UPDATE (of the column that is named), DELETE and TRUNCATE (58).
SELECT 'guard-missing' AS kind, g.of_table AS "table", g.name AS key, NULL AS user_id,
    jsonb_build_object('enabled', t.tgenabled, 'function', p.proname, 'type', t.tgtype)::text AS detail
FROM (VALUES
    ('append_only', '{credit_entries,credit_operations,price_versions}', NULL,
        '54050fe020dcd3c0c686183043f7827992ce5e7cf0b3d35c501aa2e00ce3d2a7'),
    ('stays', '{user_billing,credit_buckets,credit_holds}', 'user_id',
        'b267916328965aba44076467c82cae3ecab184595faa950c1253eb8a2d2874d5')
) AS f (name, tables, of_column, body)
CROSS JOIN LATERAL (SELECT t.of_table, t.of_table || '_' || f.name AS name FROM unnest(f.tables::text[]) AS t (of_table)) g
LEFT JOIN pg_trigger t ON t.tgrelid = g.of_table::regclass AND t.tgname = g.name
LEFT JOIN pg_attribute c ON c.attrelid = g.of_table::regclass AND c.attname = f.of_column
LEFT JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgenabled IS NULL OR t.tgenabled IN ('D', 'R') OR t.tgtype <> 58 OR t.tgqual IS NOT NULL
    OR t.tgattr::text <> coalesce(c.attnum::text, '')
    OR encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') <> f.body
UNION ALL
-- and what seals acts and prices seals them as it did
SELECT 'guard-missing', 'pg_proc', f.name, NULL, jsonb_build_object('function', p.proname)::text
FROM (VALUES ('ledger_act_hash', '9c60b05a3a63e44293aefae5b1283cc356f4468dc4bb4e50e428276bfa55d5ec'), ('price_hash', '3a3d91de5974a03b4e4a6d51f1ceef0f3d2b0eb5e039d93f819090f7da48d1b8')) AS f (name, body)
LEFT JOIN pg_proc p ON p.proname = f.name AND p.pronamespace = 'public'::regnamespace
WHERE encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') IS DISTINCT FROM f.body;
