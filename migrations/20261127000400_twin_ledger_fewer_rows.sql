-- The same money, with less to do for it. Measured with `make bench-ledger`: where callers meet at one account, each of them
-- finds what it needs of its own memory cold, and whatever is done while the account is held is paid twice.
--
-- What a hold draws on is told by the entries that reserved it, which nothing changes and the chain seals. A table of parts
-- told it a second time; a hold says which of its account's entries those are.
--
-- What goes was read by the functions that are replaced here, and by `twin verify`.
-- squawk-ignore-file ban-drop-constraint, ban-drop-function, ban-drop-table, ban-drop-generated-expression

-- All tables or none: a reserve comes by account and hold, a capture by hold and account, so whoever waits for one of them
-- while they have another stops with one of those.
DO $$
BEGIN
    FOR i IN 1 .. 400 LOOP
        BEGIN
            LOCK TABLE public.user_billing, public.credit_buckets, public.credit_holds, public.credit_hold_parts,
                public.credit_entries IN ACCESS EXCLUSIVE MODE NOWAIT;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN PERFORM pg_sleep(0.025);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'the ledger was at work for ten seconds without a pause: migrate when it has one';
END
$$;

ALTER TABLE public.credit_holds ADD COLUMN first_seq bigint, ADD COLUMN last_seq bigint;

-- Of those that have ended nobody asks any more, and history is long: only what can still be settled is told.
UPDATE public.credit_holds h SET first_seq = coalesce(r.first_seq, 1), last_seq = coalesce(r.last_seq, 0)
FROM (
    SELECT o.hold_id, min(e.seq) AS first_seq, max(e.seq) AS last_seq
    FROM public.credit_holds o
    LEFT JOIN public.credit_entries e ON e.user_id = o.user_id AND e.hold_id = o.hold_id AND e.kind = 'reserve'
    WHERE o.state = 'open'
    GROUP BY o.hold_id
) r
WHERE h.hold_id = r.hold_id;

ALTER TABLE public.credit_hold_parts DROP CONSTRAINT credit_hold_parts_rules;
DROP FUNCTION public.ledger_check_hold_part;
DROP TABLE public.credit_hold_parts;

-- A generated column's expression is read and planned anew by each statement: it is written, and a rule says that it is right.
ALTER TABLE public.credit_buckets ALTER COLUMN live DROP EXPRESSION;
ALTER TABLE public.credit_buckets ALTER COLUMN live SET DEFAULT true;

-- Accounts, buckets and holds stay, and stay whose they are. Entries and holds are written while their account is locked, so
-- they need not look for what cannot go each time; `twin verify` looks.
CREATE FUNCTION public.ledger_refuse_to_leave() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: entries tell of its rows, so they stay, and stay whose they are', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'TW008';
END
$$;
CREATE TRIGGER user_billing_stays BEFORE UPDATE OF user_id OR DELETE OR TRUNCATE ON public.user_billing
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_to_leave();
CREATE TRIGGER credit_buckets_stays BEFORE UPDATE OF user_id OR DELETE OR TRUNCATE ON public.credit_buckets
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_to_leave();
CREATE TRIGGER credit_holds_stays BEFORE UPDATE OF user_id OR DELETE OR TRUNCATE ON public.credit_holds
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_to_leave();
ALTER TABLE public.credit_entries DROP CONSTRAINT credit_entries_user_id_fkey;
ALTER TABLE public.credit_holds DROP CONSTRAINT credit_holds_user_id_fkey;

CREATE OR REPLACE FUNCTION public.ledger_check_bucket(b public.credit_buckets) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN b.granted > 0 AND b.remaining >= 0 AND b.held >= 0 AND b.remaining + b.held <= b.granted
        AND b.live = (b.remaining + b.held > 0)
        AND b.expires_at > b.effective_at
        AND length(b.source_ref) BETWEEN 1 AND 255
        AND (b.paid_amount IS NULL) = (b.paid_currency IS NULL)
        AND (b.paid_amount IS NULL OR (b.kind = 'paid' AND b.paid_amount >= 0 AND b.paid_currency ~ '^[A-Z]{3}$'));
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_check_hold(h public.credit_holds) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN h.quoted >= 0 AND h.captured >= 0 AND h.released >= 0 AND h.late_captured >= 0 AND h.round >= 1
        AND jsonb_typeof(h.price) = 'object'
        AND CASE h.state
            WHEN 'open' THEN h.captured = 0 AND h.released = 0 AND h.settled_at IS NULL AND NOT h.final
                -- No entry when nothing was asked for: then they end before they begin.
                AND coalesce(h.first_seq >= 1 AND (h.last_seq >= h.first_seq) = (h.quoted > 0), false)
            WHEN 'captured' THEN h.captured + h.released = h.quoted AND h.settled_at IS NOT NULL AND h.final
            WHEN 'released' THEN h.captured = 0 AND h.released = h.quoted AND h.settled_at IS NOT NULL AND h.final
            WHEN 'expired' THEN h.captured = 0 AND h.released = h.quoted AND h.settled_at IS NOT NULL
        END
        AND CASE WHEN h.late
            THEN h.state = 'expired' AND h.final AND h.late_captured <= h.quoted
            ELSE h.late_captured = 0
        END;
END
$$;

-- As one expression, these two become part of the expression that asks for them.
CREATE OR REPLACE FUNCTION public.ledger_balance_json(a public.user_billing, p_available bigint) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('available', p_available, 'held', a.held + a.overdraft_held, 'posted', a.posted,
        'overdraft_used', a.overdraft_used, 'overdraft_limit', a.overdraft_limit)
$$;

-- The hash of an entry: of what went before, and of this entry as a JSON array, in the very characters of jsonb.
CREATE OR REPLACE FUNCTION public.ledger_hash(
    p_previous bytea, p_user_id text, p_seq bigint, p_txn_id uuid, p_move public.ledger_movement, p_hold_id uuid,
    p_actor text, p_posted bigint, p_held bigint, p_overdraft_used bigint, p_overdraft_held bigint, p_at timestamptz,
    p_detail jsonb
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(p_previous || convert_to(concat('[', to_json(p_user_id), ', ', p_seq, ', "', p_txn_id, '", "',
    p_move.kind, '", "', p_move.from_leg, '", "', p_move.to_leg, '", ', p_move.amount, ', ',
    coalesce(p_move.bucket_id::text, 'null'), ', ', coalesce('"' || p_hold_id::text || '"', 'null'), ', ',
    to_json(p_actor), ', ', p_posted, ', ', p_held, ', ', p_overdraft_used, ', ', p_overdraft_held, ', ',
    (extract(epoch FROM p_at) * 1000000)::bigint, ', ' || p_detail::text, ']'), 'UTF8'))
$$;

-- Lock the account, opening it when it is new: the row with its terms, its own or the plan's. Its columns are named in their
-- order: a row within a row is taken apart and put together again. Whoever reads afterwards does so in a statement of
-- their own.
CREATE OR REPLACE FUNCTION public.ledger_lock(p_user_id text) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    -- To stand in line is an expression here: as a statement it takes longer than all else that it does.
    v_in_line text := pg_advisory_xact_lock(public.ledger_line(p_user_id))::text;
    a public.user_billing;
BEGIN
    LOOP
        SELECT u.user_id, u.posted, u.held, u.overdraft_used, u.overdraft_held,
            coalesce(u.overdraft_limit, p.overdraft_limit),
            coalesce(u.low_balance_threshold, p.low_balance_threshold),
            coalesce(u.policy, p.policy),
            u.plan, u.time_zone, u.daily_granted_on, u.seq, u.head_hash, u.due_at, u.holds_due_at, u.created_at, u.warned
        INTO a
        FROM public.user_billing u INNER JOIN public.credit_plans p ON u.plan = p.plan
        WHERE u.user_id = p_user_id FOR NO KEY UPDATE OF u;
        EXIT WHEN FOUND;
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN a;
END
$$;

-- What was answered to this key, or NULL; refused if it was asked something else.
CREATE OR REPLACE FUNCTION public.ledger_replay(p_scope text, p_key text, p_request_hash bytea) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_request_hash bytea;
    v_outcome jsonb;
BEGIN
    IF p_key IS NULL OR length(p_key) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'a key has 1 to 255 characters' USING ERRCODE = 'TW007';
    END IF;
    SELECT o.request_hash, o.outcome INTO v_request_hash, v_outcome
    FROM public.credit_operations o WHERE o.scope = p_scope AND o.key = p_key;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF v_request_hash <> p_request_hash THEN
        RAISE EXCEPTION 'key % was used for another request', p_key USING ERRCODE = 'TW001';
    END IF;
    RETURN v_outcome || '{"replayed": true}';
END
$$;

-- What can be spent, and the movements that take p_amount of it, or as much as there is, in spending order.
CREATE OR REPLACE FUNCTION public.ledger_draw(
    p_user_id text, p_amount bigint, p_kind public.credit_entry_kind, p_to_leg public.credit_leg, p_now timestamptz,
    OUT available bigint, OUT moves public.ledger_movement[]
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_bucket_id bigint;
    v_remaining bigint;
BEGIN
    available := 0;
    moves := '{}';
    FOR v_bucket_id, v_remaining IN
        SELECT b.bucket_id, b.remaining FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.live AND b.remaining > 0
            AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)
        ORDER BY b.priority, b.expires_at NULLS LAST, b.kind, b.effective_at, b.bucket_id
    LOOP
        IF available < p_amount THEN
            moves := moves || ROW(p_kind, 'available', p_to_leg, least(v_remaining, p_amount - available),
                v_bucket_id)::public.ledger_movement;
        END IF;
        available := available + v_remaining;
    END LOOP;
END
$$;

-- Write movements down, in order, and keep account and buckets in step.
CREATE OR REPLACE FUNCTION public.ledger_post(
    a public.user_billing, p_moves public.ledger_movement[], p_txn_id uuid, p_hold_id uuid, p_actor text,
    p_now timestamptz, p_detail jsonb DEFAULT NULL
) RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    m public.ledger_movement;
    v_available bigint;
    v_held bigint;
BEGIN
    FOREACH m IN ARRAY p_moves LOOP
        v_available := m.amount * ((m.to_leg = 'available')::int - (m.from_leg = 'available')::int);
        v_held := m.amount * ((m.to_leg = 'held')::int - (m.from_leg = 'held')::int);
        a.seq := a.seq + 1;
        a.posted := a.posted + v_available + v_held;
        a.held := a.held + v_held;
        -- Only repaying moves a bucket's credits and the overdraft.
        IF m.bucket_id IS NULL OR m.kind = 'repay' THEN
            a.overdraft_used := a.overdraft_used - m.amount
                * ((m.to_leg IN ('overdraft', 'overdraft_held'))::int
                    - (m.from_leg IN ('overdraft', 'overdraft_held'))::int);
            a.overdraft_held := a.overdraft_held + m.amount
                * ((m.to_leg = 'overdraft_held')::int - (m.from_leg = 'overdraft_held')::int);
        END IF;
        a.head_hash := public.ledger_hash(a.head_hash, a.user_id, a.seq, p_txn_id, m, p_hold_id, p_actor,
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now, p_detail);
        INSERT INTO public.credit_entries (user_id, seq, txn_id, kind, from_leg, to_leg, amount, bucket_id, hold_id, actor,
            posted_after, held_after, overdraft_used_after, overdraft_held_after, at, hash, detail)
        VALUES (a.user_id, a.seq, p_txn_id, m.kind, m.from_leg, m.to_leg, m.amount, m.bucket_id, p_hold_id, p_actor,
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now, a.head_hash, p_detail);
        -- A bucket is inserted with its first credits in it, so the movement that fills it is not applied again.
        IF m.from_leg NOT IN ('issued', 'revenue') THEN
            UPDATE public.credit_buckets b
            SET remaining = b.remaining + v_available, held = b.held + v_held,
                live = b.remaining + v_available + b.held + v_held > 0
            WHERE b.bucket_id = m.bucket_id;
        END IF;
    END LOOP;
    UPDATE public.user_billing u
    SET posted = a.posted, held = a.held, overdraft_used = a.overdraft_used, overdraft_held = a.overdraft_held,
        seq = a.seq, head_hash = a.head_hash, due_at = a.due_at, holds_due_at = a.holds_due_at,
        daily_granted_on = a.daily_granted_on, warned = a.warned
    WHERE u.user_id = a.user_id;
    RETURN a;
END
$$;

-- Hold p_amount credits for a generation, or deny it.
CREATE OR REPLACE FUNCTION public.ledger_reserve(
    p_user_id text, p_key text, p_generation_id uuid, p_amount bigint, p_expires_at timestamptz, p_price jsonb,
    p_hold_id uuid DEFAULT NULL, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql
SET search_path = ''
SET lock_timeout = '3s'
AS $$
DECLARE
    v_request bytea := sha256(convert_to(
        jsonb_build_array('reserve', p_generation_id, p_amount, p_price)::text, 'UTF8'));
    v_hold_id uuid := coalesce(p_hold_id, gen_random_uuid());
    v_txn_id uuid := gen_random_uuid();
    -- What does not ask for the account is done before it is held.
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_outcome jsonb := public.ledger_replay(p_user_id, p_key, v_request);
    v_daily bigint;
    v_drawn record;
    v_available bigint;
    v_moves public.ledger_movement[];
    v_decision jsonb;
BEGIN
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_amount IS NULL OR p_amount NOT BETWEEN 0 AND 1000000000000
        OR p_expires_at IS NULL OR p_expires_at <= v_now THEN
        RAISE EXCEPTION 'a hold is of 0 to 10^12 credits and ends in the future' USING ERRCODE = 'TW007';
    END IF;
    -- Debt beside credits: those that a clock that went back had put into the future.
    IF a.due_at <= v_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, gen_random_uuid(), v_now);
    END IF;
    v_daily := public.ledger_daily_due(a, v_now);
    IF v_daily > 0 THEN
        a := public.ledger_grant_daily(a, v_daily, gen_random_uuid(), v_now);
    END IF;
    v_drawn := public.ledger_draw(p_user_id, p_amount, 'reserve', 'held', v_now);
    v_available := v_drawn.available;
    v_moves := v_drawn.moves;
    v_decision := public.ledger_judge(a, v_available, p_amount);
    IF v_decision ->> 'verdict' = 'block' THEN
        RETURN public.ledger_remember(p_user_id, p_key, 'reserve', v_request, jsonb_build_object(
            'outcome', 'denied', 'hold_id', NULL,
            'decision', v_decision || jsonb_build_object('next_daily', public.ledger_next_daily(a, v_now)),
            'balance', v_decision -> 'balance'
        ), v_now, p_user_id);
    END IF;
    IF p_amount > v_available THEN
        v_moves := v_moves || ROW('reserve', 'overdraft', 'overdraft_held', p_amount - v_available,
            NULL)::public.ledger_movement;
    END IF;
    -- Nearly always the first; else the next round's. The account's lock keeps this person's holds as they are read here;
    -- another's are kept apart by their number.
    INSERT INTO public.credit_holds (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at,
        first_seq, last_seq)
    VALUES (v_hold_id, p_user_id, p_generation_id, 1, p_amount, p_price, v_now, p_expires_at,
        a.seq + 1, a.seq + cardinality(v_moves))
    ON CONFLICT (generation_id, round) DO NOTHING;
    IF NOT FOUND THEN
        INSERT INTO public.credit_holds (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at,
            first_seq, last_seq)
        SELECT v_hold_id, p_user_id, p_generation_id, max(h.round) + 1, p_amount, p_price, v_now, p_expires_at,
            a.seq + 1, a.seq + cardinality(v_moves)
        FROM public.credit_holds h WHERE h.generation_id = p_generation_id
        HAVING bool_and(h.user_id = p_user_id AND h.final AND h.captured + h.late_captured = 0)
        ON CONFLICT (generation_id, round) DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'generation % has a hold already', p_generation_id USING ERRCODE = 'TW005';
        END IF;
    END IF;
    a.holds_due_at := least(a.holds_due_at, p_expires_at);
    IF v_decision ->> 'verdict' = 'warn' THEN
        a := public.ledger_warn(a, greatest(v_available - p_amount, 0),
            greatest(p_amount - v_available, 0) + a.overdraft_used + a.overdraft_held, v_now);
    END IF;
    a := public.ledger_post(a, v_moves, v_txn_id, v_hold_id, p_user_id, v_now);
    RETURN public.ledger_remember(p_user_id, p_key, 'reserve', v_request, jsonb_build_object(
        'outcome', 'held', 'hold_id', v_hold_id, 'txn_id', v_txn_id, 'decision', v_decision,
        'balance', public.ledger_balance_json(a, greatest(v_available - p_amount, 0))
    ), v_now, p_user_id);
END
$$;

-- End a hold that is open: capture the first p_amount of it in the order it was taken, give the rest back in reverse, then
-- do what the returned credits ask for (expire with their bucket, pay debt) under the same transaction id. Nothing is done,
-- and NULL is the answer, when it is not open or p_amount is not of it; a hold whose entries are not what it promised is
-- refused as a row is that breaks a rule.
CREATE OR REPLACE FUNCTION public.ledger_settle(
    a public.user_billing, p_hold_id uuid, p_amount bigint, p_state public.credit_hold_state, p_reason text,
    p_txn_id uuid, p_now timestamptz
) RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_back public.credit_entry_kind := CASE p_state WHEN 'expired' THEN 'lapse' ELSE 'release' END;
    v_moves public.ledger_movement[] := '{}';
    v_returned public.ledger_movement[] := '{}';
    v_left bigint := p_amount;
    v_unseen bigint;
    v_first_seq bigint;
    v_last_seq bigint;
    v_bucket_id bigint;
    v_amount bigint;
    v_from_leg public.credit_leg;
    v_held_leg public.credit_leg;
    v_captured bigint;
BEGIN
    UPDATE public.credit_holds h
    SET state = p_state, captured = p_amount, released = h.quoted - p_amount, settled_at = p_now,
        reason = p_reason, final = p_state <> 'expired'
    WHERE h.hold_id = p_hold_id AND h.state = 'open' AND p_amount BETWEEN 0 AND h.quoted
    RETURNING h.quoted, h.first_seq, h.last_seq INTO v_unseen, v_first_seq, v_last_seq;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR v_bucket_id, v_amount, v_from_leg, v_held_leg IN
        SELECT e.bucket_id, e.amount, e.from_leg, e.to_leg FROM public.credit_entries e
        WHERE e.user_id = a.user_id AND e.seq BETWEEN v_first_seq AND v_last_seq AND e.hold_id = p_hold_id
        ORDER BY e.seq
    LOOP
        v_unseen := v_unseen - v_amount;
        v_captured := least(v_amount, v_left);
        v_left := v_left - v_captured;
        IF v_captured > 0 THEN
            v_moves := v_moves || ROW('capture', v_held_leg, 'revenue', v_captured, v_bucket_id)::public.ledger_movement;
        END IF;
        IF v_captured < v_amount THEN
            -- In front of those before it: unwound in reverse.
            v_returned := ROW(v_back, v_held_leg, v_from_leg, v_amount - v_captured, v_bucket_id)::public.ledger_movement
                || v_returned;
            -- The overdraft has no bucket, and NULL is never the least.
            a.due_at := least(a.due_at, (
                SELECT CASE WHEN b.expires_at <= p_now THEN p_now ELSE b.expires_at END
                FROM public.credit_buckets b WHERE b.bucket_id = v_bucket_id));
        END IF;
    END LOOP;
    IF v_unseen <> 0 THEN
        RAISE check_violation USING MESSAGE = format('hold %s is not what its entries reserved', p_hold_id);
    END IF;
    v_moves := v_moves || v_returned;
    IF cardinality(v_moves) > 0 THEN
        a := public.ledger_post(a, v_moves, p_txn_id, p_hold_id, 'system', p_now);
    END IF;
    IF a.due_at <= p_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, p_txn_id, p_now);
    END IF;
    RETURN a;
END
$$;

-- Charge p_amount of a hold and give the rest back; after it has expired, charge late.
CREATE OR REPLACE FUNCTION public.ledger_capture(p_hold_id uuid, p_key text, p_amount bigint, p_now timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = ''
SET lock_timeout = '3s'
AS $$
DECLARE
    v_user_id text;
    v_quoted bigint;
    v_request bytea := sha256(convert_to(jsonb_build_array('capture', p_hold_id, p_amount)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    a public.user_billing;
    h public.credit_holds;
    v_late boolean;
    v_now timestamptz;
    v_outcome jsonb;
    v_available bigint;
    v_moves public.ledger_movement[];
BEGIN
    -- Neither ever changes.
    SELECT q.user_id, q.quoted INTO v_user_id, v_quoted FROM public.credit_holds q WHERE q.hold_id = p_hold_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no hold %', p_hold_id USING ERRCODE = 'TW002';
    END IF;
    a := public.ledger_lock(v_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay(v_user_id, p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    a := public.ledger_settle(a, p_hold_id, p_amount, 'captured', NULL, v_txn_id, v_now);
    v_late := a.user_id IS NULL;
    IF v_late THEN
        a := public.ledger_lock(v_user_id);
        SELECT * INTO h FROM public.credit_holds WHERE hold_id = p_hold_id;
        IF h.final THEN
            RAISE EXCEPTION 'hold % is % already', p_hold_id, h.state USING ERRCODE = 'TW003';
        ELSIF p_amount IS NULL OR p_amount < 0 THEN
            RAISE EXCEPTION 'a capture is of 0 or more credits' USING ERRCODE = 'TW007';
        ELSIF p_amount > h.quoted THEN
            RAISE EXCEPTION 'hold % was for % credits, not %', p_hold_id, h.quoted, p_amount USING ERRCODE = 'TW004';
        END IF;
        IF a.due_at <= v_now OR a.overdraft_used > 0 THEN
            a := public.ledger_tidy(a, gen_random_uuid(), v_now);
        END IF;
        SELECT d.available, d.moves INTO v_available, v_moves
        FROM public.ledger_draw(v_user_id, p_amount, 'capture', 'revenue', v_now) d;
        IF p_amount > v_available THEN
            v_moves := v_moves || ROW('capture', 'overdraft', 'revenue', p_amount - v_available,
                NULL)::public.ledger_movement;
        END IF;
        a := public.ledger_warn(a, greatest(v_available - p_amount, 0),
            greatest(p_amount - v_available, 0) + a.overdraft_used + a.overdraft_held, v_now);
        a := public.ledger_post(a, v_moves, v_txn_id, p_hold_id, 'system', v_now);
        UPDATE public.credit_holds SET late = true, late_captured = p_amount, final = true WHERE hold_id = p_hold_id;
    END IF;
    RETURN public.ledger_remember(v_user_id, p_key, 'capture', v_request, jsonb_build_object(
        'captured', p_amount, 'released', v_quoted - p_amount, 'late', v_late,
        'hold_id', p_hold_id, 'txn_id', v_txn_id,
        -- A late one may have warned, of what is left.
        'balance', public.ledger_balance_json(a, v_available - least(p_amount, v_available))
    ), v_now, 'system');
END
$$;

-- Give a whole hold back; after it has expired, say that nothing will come late.
CREATE OR REPLACE FUNCTION public.ledger_release(p_hold_id uuid, p_key text, p_reason text, p_now timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = ''
SET lock_timeout = '3s'
AS $$
DECLARE
    v_user_id text;
    v_quoted bigint;
    v_request bytea := sha256(convert_to(jsonb_build_array('release', p_hold_id)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    a public.user_billing;
    v_now timestamptz;
    v_outcome jsonb;
BEGIN
    -- Neither ever changes.
    SELECT q.user_id, q.quoted INTO v_user_id, v_quoted FROM public.credit_holds q WHERE q.hold_id = p_hold_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no hold %', p_hold_id USING ERRCODE = 'TW002';
    END IF;
    a := public.ledger_lock(v_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay(v_user_id, p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    a := public.ledger_settle(a, p_hold_id, 0, 'released', p_reason, v_txn_id, v_now);
    IF a.user_id IS NULL THEN
        a := public.ledger_lock(v_user_id);
        UPDATE public.credit_holds SET final = true, reason = p_reason WHERE hold_id = p_hold_id AND NOT final;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'hold % is % already', p_hold_id,
                (SELECT h.state FROM public.credit_holds h WHERE h.hold_id = p_hold_id) USING ERRCODE = 'TW003';
        END IF;
    END IF;
    RETURN public.ledger_remember(v_user_id, p_key, 'release', v_request, jsonb_build_object(
        'captured', 0, 'released', v_quoted, 'late', false, 'hold_id', p_hold_id, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(a, NULL)
    ), v_now, 'system');
END
$$;

SELECT public.access_to_functions();
