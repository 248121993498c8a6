-- The same money, faster: nothing here changes what is decided, only what it costs. Measured with `make bench-ledger`.
-- squawk-ignore-file constraint-missing-not-valid

-- ---------------------------------------------------------------------------------------------- row-local rules
-- Postgres reads every CHECK from its text anew for every statement that writes a row: a fifth of what a reserve and a
-- capture cost. A function is read once a session, so each table's rules stand in one. Whoever changes a rule replaces
-- the function in a migration that also checks the rows there are: nothing else does.
-- As in a CHECK, NULL passes.

CREATE FUNCTION public.ledger_check_account(a public.user_billing) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN length(a.user_id) BETWEEN 1 AND 255
        AND a.held BETWEEN 0 AND a.posted
        AND a.overdraft_used >= 0 AND a.overdraft_held >= 0
        AND a.overdraft_limit >= 0 AND a.low_balance_threshold >= 0
        AND a.warned BETWEEN 0 AND 2
        AND a.time_zone <> ''
        AND a.seq >= 0 AND length(a.head_hash) = 32;
END
$$;

CREATE FUNCTION public.ledger_check_bucket(b public.credit_buckets) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN b.granted > 0 AND b.remaining >= 0 AND b.held >= 0 AND b.remaining + b.held <= b.granted
        AND b.expires_at > b.effective_at
        AND length(b.source_ref) BETWEEN 1 AND 255
        AND (b.paid_amount IS NULL) = (b.paid_currency IS NULL)
        AND (b.paid_amount IS NULL OR (b.kind = 'paid' AND b.paid_amount >= 0 AND b.paid_currency ~ '^[A-Z]{3}$'));
END
$$;

CREATE FUNCTION public.ledger_check_hold(h public.credit_holds) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN h.quoted >= 0 AND h.captured >= 0 AND h.released >= 0 AND h.late_captured >= 0 AND h.round >= 1
        AND jsonb_typeof(h.price) = 'object'
        AND CASE h.state
            WHEN 'open' THEN h.captured = 0 AND h.released = 0 AND h.settled_at IS NULL AND NOT h.final
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

CREATE FUNCTION public.ledger_check_hold_part(p public.credit_hold_parts) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN p.ordinal >= 1 AND p.amount > 0 AND p.captured >= 0 AND p.released >= 0
        AND p.captured + p.released IN (0, p.amount);
END
$$;

CREATE FUNCTION public.ledger_check_entry(e public.credit_entries) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN e.seq >= 1 AND e.amount > 0 AND e.from_leg <> e.to_leg
        -- A bucket is named exactly when its credits move.
        AND (e.bucket_id IS NOT NULL) = (e.from_leg IN ('available', 'held') OR e.to_leg IN ('available', 'held'))
        AND e.posted_after >= 0 AND e.held_after >= 0 AND e.overdraft_used_after >= 0 AND e.overdraft_held_after >= 0
        AND jsonb_typeof(e.detail) = 'object' AND length(e.hash) = 32;
END
$$;

CREATE FUNCTION public.ledger_check_operation(o public.credit_operations) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN length(o.key) BETWEEN 1 AND 255 AND length(o.request_hash) = 32;
END
$$;

DO $$
DECLARE
    t record;
    c record;
BEGIN
    FOR t IN VALUES
        ('user_billing', 'account'), ('credit_buckets', 'bucket'), ('credit_holds', 'hold'),
        ('credit_hold_parts', 'hold_part'), ('credit_entries', 'entry'), ('credit_operations', 'operation')
    LOOP
        FOR c IN
            SELECT conname AS name FROM pg_catalog.pg_constraint
            WHERE conrelid = format('public.%I', t.column1)::regclass AND contype = 'c'
        LOOP
            EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT %I', t.column1, c.name);
        END LOOP;
        EXECUTE format('ALTER TABLE public.%I ADD CONSTRAINT %I CHECK (public.ledger_check_%s(%1$I))',
            t.column1, t.column1 || '_rules', t.column2);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------- the line at an account

-- Who waits for a row lock wakes whenever the row changes hands, and then follows every version that came since it
-- began to wait: with 64 callers at one account that took more time than their work. An advisory lock is handed over to
-- one, in the order of arrival, and whoever has it finds the newest row at once. The row's lock is what protects, the
-- line only stands in front of it; so it is always taken in this order, and nobody takes the row alone.
CREATE FUNCTION public.ledger_line(p_user_id text) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN hashtextextended(p_user_id, 1);

-- Lock the account, opening it when it is new. Whoever reads afterwards does so in a statement of their own.
CREATE OR REPLACE FUNCTION public.ledger_lock(p_user_id text) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    a public.user_billing;
BEGIN
    PERFORM pg_advisory_xact_lock(public.ledger_line(p_user_id));
    SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
        SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    END IF;
    RETURN public.ledger_on_terms(a);
END
$$;

-- The sweep: ledger_expire for up to p_limit accounts that have something due, passing over those that somebody is at
-- work on. An account that contradicts itself is left as it is, counted as failed, and keeps nobody else's credits
-- waiting, however many of them there are. Each account's time is taken when it is locked, not when the round began.
CREATE OR REPLACE FUNCTION public.ledger_expire_due(p_limit integer, p_now timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_user_id text;
    v_expired jsonb;
    v_accounts integer := 0;
    v_holds bigint := 0;
    v_credits bigint := 0;
    v_failed integer := 0;
BEGIN
    FOR v_user_id IN
        SELECT u.user_id FROM public.user_billing u WHERE u.due_at <= v_now OR u.holds_due_at <= v_now
    LOOP
        EXIT WHEN v_accounts >= p_limit;
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(public.ledger_line(v_user_id));
        -- Once more, as another sweep may have been here since.
        PERFORM FROM public.user_billing u
        WHERE u.user_id = v_user_id AND least(u.due_at, u.holds_due_at) <= v_now FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        BEGIN
            v_expired := public.ledger_expire(v_user_id, p_now);
            v_accounts := v_accounts + 1;
            v_holds := v_holds + (v_expired ->> 'holds')::bigint;
            v_credits := v_credits + (v_expired ->> 'credits')::bigint;
        EXCEPTION WHEN check_violation THEN
            v_failed := v_failed + 1;
        END;
    END LOOP;
    RETURN jsonb_build_object('accounts', v_accounts, 'holds', v_holds, 'credits', v_credits, 'failed', v_failed);
END
$$;

-- ---------------------------------------------------------------------------------------------- shorter ways

-- What can be spent at p_now, and the movements that would take p_amount of it (or all there is), in spending order:
-- priority, soonest expiry (never last), promotional before paid, effective date, id.
CREATE OR REPLACE FUNCTION public.ledger_draw(
    p_user_id text, p_amount bigint, p_kind public.credit_entry_kind, p_to_leg public.credit_leg,
    p_now timestamptz, OUT available bigint, OUT moves public.ledger_movement[]
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    s record;
BEGIN
    available := 0;
    moves := '{}';
    FOR s IN
        SELECT b.bucket_id, b.remaining FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.live AND b.remaining > 0
            AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)
        ORDER BY b.priority, b.expires_at NULLS LAST, b.kind, b.effective_at, b.bucket_id
    LOOP
        IF available < p_amount THEN
            moves := moves || ROW(p_kind, 'available', p_to_leg, least(s.remaining, p_amount - available),
                s.bucket_id)::public.ledger_movement;
        END IF;
        available := available + s.remaining;
    END LOOP;
END
$$;

-- Write movements: the entries with their running balances and hashes, the buckets they touch, the account. Returns
-- the account as it now is. The account is written even when there are no movements (its due times may have changed).
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
        a.overdraft_used := a.overdraft_used - m.amount
            * ((m.to_leg IN ('overdraft', 'overdraft_held'))::int
                - (m.from_leg IN ('overdraft', 'overdraft_held'))::int);
        a.overdraft_held := a.overdraft_held + m.amount
            * ((m.to_leg = 'overdraft_held')::int - (m.from_leg = 'overdraft_held')::int);
        a.head_hash := public.ledger_hash(a.head_hash, a.user_id, a.seq, p_txn_id, m, p_hold_id, p_actor,
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now, p_detail);
        INSERT INTO public.credit_entries (user_id, seq, txn_id, kind, from_leg, to_leg, amount, bucket_id, hold_id, actor,
            posted_after, held_after, overdraft_used_after, overdraft_held_after, at, hash, detail)
        VALUES (a.user_id, a.seq, p_txn_id, m.kind, m.from_leg, m.to_leg, m.amount, m.bucket_id, p_hold_id, p_actor,
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now, a.head_hash, p_detail);
        -- A bucket is inserted with its first credits in it, so the movement that fills it is not applied again.
        IF m.from_leg NOT IN ('issued', 'revenue') THEN
            UPDATE public.credit_buckets b SET remaining = b.remaining + v_available, held = b.held + v_held
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

-- Promise credits to a generation, or say why not. The decision is ledger_judge's, as in a quote. A denial is an
-- outcome like any other: the same key gets it again. The deadline is not part of the request, so a retry that
-- computes a later one is still the same request. TW005: an earlier hold of the generation has not ended, or was charged,
-- or is somebody else's.
CREATE OR REPLACE FUNCTION public.ledger_reserve(
    p_user_id text, p_key text, p_generation_id uuid, p_amount bigint, p_expires_at timestamptz, p_price jsonb,
    p_hold_id uuid DEFAULT NULL, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_request bytea := sha256(convert_to(
        jsonb_build_array('reserve', p_generation_id, p_amount, p_price)::text, 'UTF8'));
    v_outcome jsonb := public.ledger_replay(p_user_id, p_key, v_request);
    v_hold_id uuid := coalesce(p_hold_id, gen_random_uuid());
    v_txn_id uuid := gen_random_uuid();
    v_daily bigint;
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
    SELECT d.available, d.moves INTO v_available, v_moves
    FROM public.ledger_draw(p_user_id, p_amount, 'reserve', 'held', v_now) d;
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
    -- The account's lock keeps this person's holds as they are read here; another's are kept apart by their number.
    INSERT INTO public.credit_holds (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at)
    SELECT v_hold_id, p_user_id, p_generation_id, coalesce(max(h.round), 0) + 1, p_amount, p_price, v_now, p_expires_at
    FROM public.credit_holds h WHERE h.generation_id = p_generation_id
    HAVING coalesce(bool_and(h.user_id = p_user_id AND h.final AND h.captured + h.late_captured = 0), true)
    ON CONFLICT (generation_id, round) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'generation % has a hold already', p_generation_id USING ERRCODE = 'TW005';
    END IF;
    FOR i IN 1 .. cardinality(v_moves) LOOP
        INSERT INTO public.credit_hold_parts (hold_id, ordinal, bucket_id, amount)
        VALUES (v_hold_id, i, v_moves[i].bucket_id, v_moves[i].amount);
    END LOOP;
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

SELECT public.access_to_functions();
