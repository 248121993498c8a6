-- What an owner and a calendar do to accounts: plans, daily credits, corrections, terms, warnings, looking back.
--
-- Every act is a row of credit_operations with who did it; what a movement was made on (terms, reason, money paid)
-- stands in `detail` of its entry, which is part of the hash.
--
-- More errors a caller may meet:
--   TW009  less than that can be taken from the account
--   TW010  no such plan
--   TW011  no such time zone
--   TW012  no such grant
--   TW013  the hold has not been charged
--
-- Functions that are dropped come back below with more arguments, optional and last, so that code of the version before
-- goes on working while it is replaced; the constraints are checked on tables that are small when money has just begun.
-- squawk-ignore-file ban-drop-function, constraint-missing-not-valid, adding-foreign-key-constraint, ban-drop-not-null, ban-drop-default, prefer-bigint-over-smallint

-- ---------------------------------------------------------------------------------------------- tables

CREATE TABLE public.credit_plans (
    plan text PRIMARY KEY CHECK (length(plan) BETWEEN 1 AND 64),
    -- Given once for each local day on which a person comes.
    daily_credits bigint NOT NULL DEFAULT 0 CHECK (daily_credits BETWEEN 0 AND 1000000000),
    policy public.credit_policy NOT NULL DEFAULT 'soft',
    overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit BETWEEN 0 AND 1000000000000),
    low_balance_threshold bigint NOT NULL DEFAULT 10 CHECK (low_balance_threshold BETWEEN 0 AND 1000000000000),
    -- Share of the workers beside other plans (queue.md, Fairness).
    weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000)
);

INSERT INTO public.credit_plans (plan) VALUES ('free');
INSERT INTO public.credit_plans (plan) SELECT DISTINCT plan FROM public.user_billing ON CONFLICT DO NOTHING;

-- NULL: the plan's. Until today the only terms anybody could have were the ones that are now the plan's.
ALTER TABLE public.user_billing
    ALTER COLUMN policy DROP NOT NULL, ALTER COLUMN policy DROP DEFAULT,
    ALTER COLUMN overdraft_limit DROP NOT NULL, ALTER COLUMN overdraft_limit DROP DEFAULT,
    ALTER COLUMN low_balance_threshold DROP NOT NULL, ALTER COLUMN low_balance_threshold DROP DEFAULT,
    -- The highest threshold that was crossed and told: 1 low balance, 2 overdraft. Credits that come in lower it.
    ADD COLUMN warned smallint NOT NULL DEFAULT 0,
    ADD CONSTRAINT user_billing_warned CHECK (warned BETWEEN 0 AND 2),
    ADD CONSTRAINT user_billing_plan FOREIGN KEY (plan) REFERENCES public.credit_plans (plan);
UPDATE public.user_billing SET policy = nullif(policy, 'soft'), overdraft_limit = nullif(overdraft_limit, 0),
    low_balance_threshold = nullif(low_balance_threshold, 10);

-- What was paid for a bucket, in the currency's smallest unit.
ALTER TABLE public.credit_buckets
    ADD COLUMN paid_amount bigint,
    ADD COLUMN paid_currency text,
    ADD CONSTRAINT credit_buckets_paid CHECK (
        (paid_amount IS NULL) = (paid_currency IS NULL)
        AND (paid_amount IS NULL OR (kind = 'paid' AND paid_amount >= 0 AND paid_currency ~ '^[A-Z]{3}$'))
    );

ALTER TABLE public.credit_entries
    ADD COLUMN detail jsonb,
    ADD CONSTRAINT credit_entries_detail CHECK (jsonb_typeof(detail) = 'object');

ALTER TABLE public.credit_operations
    ADD COLUMN actor text,
    ADD COLUMN detail jsonb;

-- On which terms accounts were opened whose terms nothing else says: verification takes them from here.
INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor)
SELECT u.user_id, 'opening:terms', 'open', sha256(''), jsonb_build_object('after', jsonb_build_object(
    'plan', u.plan, 'policy', u.policy, 'overdraft_limit', u.overdraft_limit,
    'low_balance_threshold', u.low_balance_threshold, 'time_zone', u.time_zone)), u.created_at, 'migration'
FROM public.user_billing u
WHERE (u.plan, u.time_zone) <> ('free', 'UTC')
    OR coalesce(u.policy::text, u.overdraft_limit::text, u.low_balance_threshold::text) IS NOT NULL;

-- One row for each threshold that somebody's balance crossed on its way down.
CREATE TABLE public.credit_warnings (
    warning_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL REFERENCES public.user_billing (user_id),
    code text NOT NULL CHECK (code IN ('low-balance', 'overdraft')),
    available bigint NOT NULL CHECK (available >= 0),
    at timestamptz NOT NULL
);

CREATE INDEX credit_warnings_person ON public.credit_warnings (user_id, warning_id);

ALTER TABLE public.credit_plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_warnings ENABLE ROW LEVEL SECURITY;

-- ---------------------------------------------------------------------------------------------- building blocks
-- plpgsql rather than sql: its statements are planned once a session on every Postgres we serve.

DROP FUNCTION public.ledger_hash(
    bytea, text, bigint, uuid, public.ledger_movement, uuid, text, bigint, bigint, bigint, bigint, timestamptz);
DROP FUNCTION public.ledger_post(
    public.user_billing, public.ledger_movement[], uuid, uuid, text, timestamptz);
DROP FUNCTION public.ledger_remember(text, text, text, bytea, jsonb, timestamptz);
DROP FUNCTION public.ledger_grant(
    text, text, bigint, public.credit_bucket_kind, text, text, integer, timestamptz, timestamptz, timestamptz);

-- One link of an account's chain. A JSON array is the canonical text: no two rows share one, whatever their strings.
CREATE FUNCTION public.ledger_hash(
    p_previous bytea, p_user_id text, p_seq bigint, p_txn_id uuid, p_move public.ledger_movement, p_hold_id uuid,
    p_actor text, p_posted bigint, p_held bigint, p_overdraft_used bigint, p_overdraft_held bigint, p_at timestamptz,
    p_detail jsonb
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_row jsonb := jsonb_build_array(
        p_user_id, p_seq, p_txn_id, p_move.kind, p_move.from_leg, p_move.to_leg, p_move.amount, p_move.bucket_id,
        p_hold_id, p_actor, p_posted, p_held, p_overdraft_used, p_overdraft_held,
        (extract(epoch FROM p_at) * 1000000)::bigint);
BEGIN
    IF p_detail IS NOT NULL THEN
        v_row := v_row || jsonb_build_array(p_detail);
    END IF;
    RETURN sha256(p_previous || convert_to(v_row::text, 'UTF8'));
END
$$;

-- A moment as text that no session's time zone changes.
CREATE FUNCTION public.ledger_moment(p_at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- The account on the terms that count: its own, else its plan's. Only the columns of ledger_post are ever written back.
CREATE FUNCTION public.ledger_on_terms(a public.user_billing) RETURNS public.user_billing
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(a.policy, p.policy), coalesce(a.overdraft_limit, p.overdraft_limit),
        coalesce(a.low_balance_threshold, p.low_balance_threshold)
    INTO a.policy, a.overdraft_limit, a.low_balance_threshold
    FROM public.credit_plans p WHERE p.plan = a.plan;
    RETURN a;
END
$$;

-- Lock the account, opening it when it is new. Whoever reads afterwards does so in a statement of their own.
CREATE OR REPLACE FUNCTION public.ledger_lock(p_user_id text) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    a public.user_billing;
BEGIN
    SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
        SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    END IF;
    RETURN public.ledger_on_terms(a);
END
$$;

CREATE FUNCTION public.ledger_remember(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz,
    p_actor text DEFAULT NULL, p_detail jsonb DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail)
    VALUES (p_scope, p_key, p_kind, p_request_hash, p_outcome, p_now, p_actor, p_detail);
    RETURN p_outcome || '{"replayed": false}';
END
$$;

-- What can be spent at p_now, and the movements that would take p_amount of it (or all there is), in spending order:
-- priority, soonest expiry (never last), promotional before paid, effective date, id.
CREATE OR REPLACE FUNCTION public.ledger_draw(
    p_user_id text, p_amount bigint, p_kind public.credit_entry_kind, p_to_leg public.credit_leg,
    p_now timestamptz, OUT available bigint, OUT moves public.ledger_movement[]
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(sum(s.remaining), 0)::bigint,
        coalesce(array_agg(
            ROW(p_kind, 'available', p_to_leg, least(s.remaining, p_amount - s.before), s.bucket_id)::public.ledger_movement
            ORDER BY s.before, s.bucket_id
        ) FILTER (WHERE s.before < p_amount), '{}')
    INTO available, moves
    FROM (
        SELECT b.bucket_id, b.remaining, (sum(b.remaining) OVER (
            ORDER BY b.priority, b.expires_at NULLS LAST, b.kind, b.effective_at, b.bucket_id
        ) - b.remaining)::bigint AS before
        FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.live AND b.remaining > 0
            AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)
    ) s;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_spendable(p_user_id text, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(b.remaining), 0)::bigint FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.live
            AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now));
END
$$;

-- Write movements: the entries with their running balances and hashes, the buckets they touch, the account. Returns
-- the account as it now is. The account is written even when there are no movements (its due times may have changed).
CREATE FUNCTION public.ledger_post(
    a public.user_billing, p_moves public.ledger_movement[], p_txn_id uuid, p_hold_id uuid, p_actor text,
    p_now timestamptz, p_detail jsonb DEFAULT NULL
) RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    m public.ledger_movement;
    v_entries public.credit_entries[] := '{}';
BEGIN
    FOREACH m IN ARRAY p_moves LOOP
        a.seq := a.seq + 1;
        a.posted := a.posted + m.amount
            * ((m.to_leg IN ('available', 'held'))::int - (m.from_leg IN ('available', 'held'))::int);
        a.held := a.held + m.amount * ((m.to_leg = 'held')::int - (m.from_leg = 'held')::int);
        a.overdraft_used := a.overdraft_used - m.amount
            * ((m.to_leg IN ('overdraft', 'overdraft_held'))::int
                - (m.from_leg IN ('overdraft', 'overdraft_held'))::int);
        a.overdraft_held := a.overdraft_held + m.amount
            * ((m.to_leg = 'overdraft_held')::int - (m.from_leg = 'overdraft_held')::int);
        a.head_hash := public.ledger_hash(a.head_hash, a.user_id, a.seq, p_txn_id, m, p_hold_id, p_actor,
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now, p_detail);
        v_entries := v_entries || ROW(a.user_id, a.seq, p_txn_id, m.kind, m.from_leg, m.to_leg, m.amount, m.bucket_id,
            p_hold_id, p_actor, a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now,
            a.head_hash, p_detail)::public.credit_entries;
    END LOOP;
    -- A bucket is inserted with its first credits in it, so the movement that fills it (always alone) is not applied again.
    IF cardinality(p_moves) = 1 AND m.from_leg NOT IN ('issued', 'revenue') AND m.bucket_id IS NOT NULL THEN
        UPDATE public.credit_buckets b
        SET remaining = b.remaining + m.amount * ((m.to_leg = 'available')::int - (m.from_leg = 'available')::int),
            held = b.held + m.amount * ((m.to_leg = 'held')::int - (m.from_leg = 'held')::int)
        WHERE b.bucket_id = m.bucket_id;
    ELSIF cardinality(p_moves) > 1 THEN
        UPDATE public.credit_buckets b SET remaining = b.remaining + d.remaining, held = b.held + d.held
        FROM (
            SELECT u.bucket_id,
                sum(u.amount * ((u.to_leg = 'available')::int - (u.from_leg = 'available')::int))::bigint AS remaining,
                sum(u.amount * ((u.to_leg = 'held')::int - (u.from_leg = 'held')::int))::bigint AS held
            FROM unnest(p_moves) u
            WHERE u.bucket_id IS NOT NULL GROUP BY u.bucket_id
        ) d
        WHERE b.bucket_id = d.bucket_id;
    END IF;
    INSERT INTO public.credit_entries SELECT * FROM unnest(v_entries);
    UPDATE public.user_billing u
    SET posted = a.posted, held = a.held, overdraft_used = a.overdraft_used, overdraft_held = a.overdraft_held,
        seq = a.seq, head_hash = a.head_hash, due_at = a.due_at, holds_due_at = a.holds_due_at,
        daily_granted_on = a.daily_granted_on, warned = a.warned
    WHERE u.user_id = a.user_id;
    RETURN a;
END
$$;

-- Put new credits into a bucket of their own: `revenue` gives back a charge, `issued` is everything else. The terms go
-- into the entry, so that nobody can change them unseen. Debt is paid first.
CREATE FUNCTION public.ledger_fill(
    a public.user_billing, b public.credit_buckets, p_kind public.credit_entry_kind, p_from_leg public.credit_leg,
    p_txn_id uuid, p_hold_id uuid, p_actor text, p_detail jsonb, p_now timestamptz,
    OUT account public.user_billing, OUT bucket_id bigint
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.credit_buckets (user_id, kind, priority, granted, remaining, effective_at, expires_at, source_ref,
        created_at, paid_amount, paid_currency)
    VALUES (a.user_id, b.kind, coalesce(b.priority, 100), b.granted, b.granted, b.effective_at, b.expires_at,
        b.source_ref, p_now, b.paid_amount, b.paid_currency)
    RETURNING credit_buckets.bucket_id INTO bucket_id;
    a.due_at := least(a.due_at, CASE WHEN b.effective_at > p_now THEN b.effective_at ELSE b.expires_at END);
    account := public.ledger_post(a,
        ARRAY[ROW(p_kind, p_from_leg, 'available', b.granted, ledger_fill.bucket_id)::public.ledger_movement],
        p_txn_id, p_hold_id, p_actor, p_now,
        jsonb_strip_nulls(jsonb_build_object(
            'kind', b.kind, 'source_ref', b.source_ref, 'priority', coalesce(b.priority, 100),
            'effective_at', public.ledger_moment(b.effective_at), 'expires_at', public.ledger_moment(b.expires_at),
            'paid_amount', b.paid_amount, 'paid_currency', b.paid_currency)) || coalesce(p_detail, '{}'));
    IF account.due_at <= p_now OR account.overdraft_used > 0 THEN
        account := public.ledger_tidy(account, p_txn_id, p_now);
    END IF;
    account := public.ledger_calm(account, p_now);
END
$$;

-- Credits have come in: what they lift the account above is told again when it is crossed again.
CREATE FUNCTION public.ledger_calm(a public.user_billing, p_now timestamptz) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
BEGIN
    IF a.warned > 0 THEN
        a.warned := least(a.warned, public.ledger_threshold(
            a, public.ledger_spendable(a.user_id, p_now), a.overdraft_used + a.overdraft_held));
        UPDATE public.user_billing u SET warned = a.warned WHERE u.user_id = a.user_id;
    END IF;
    RETURN a;
END
$$;

-- What the clock and a debt ask for: write down expired buckets, pay debt from what can be spent, look up the next due
-- time. Called when either may have something to do; a held credit is not in `remaining` and so cannot expire. Nothing
-- due is ever left standing, so a bucket that becomes effective between due_at and now has come in since.
CREATE OR REPLACE FUNCTION public.ledger_tidy(a public.user_billing, p_txn_id uuid, p_now timestamptz)
RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_moves public.ledger_movement[] := '{}';
    v_repay public.ledger_movement[] := '{}';
    v_came boolean := false;
BEGIN
    IF a.due_at <= p_now THEN
        v_came := a.warned > 0 AND EXISTS (
            SELECT FROM public.credit_buckets b
            WHERE b.user_id = a.user_id AND b.live AND b.effective_at BETWEEN a.due_at AND p_now);
        SELECT coalesce(array_agg(
            ROW('expire', 'available', 'expired', b.remaining, b.bucket_id)::public.ledger_movement ORDER BY b.expires_at, b.bucket_id
        ), '{}') INTO v_moves
        FROM public.credit_buckets b
        WHERE b.user_id = a.user_id AND b.live AND b.remaining > 0 AND b.expires_at <= p_now;
        SELECT min(t.due) INTO a.due_at
        FROM public.credit_buckets b
        CROSS JOIN LATERAL (
            SELECT CASE WHEN b.effective_at > p_now THEN b.effective_at ELSE b.expires_at END AS due
        ) t
        WHERE b.user_id = a.user_id AND b.live AND t.due > p_now;
    END IF;
    IF a.overdraft_used > 0 THEN
        SELECT d.moves INTO v_repay
        FROM public.ledger_draw(a.user_id, a.overdraft_used, 'repay', 'overdraft', p_now) d;
    END IF;
    a := public.ledger_post(a, v_moves || v_repay, p_txn_id, NULL, 'system', p_now);
    RETURN CASE WHEN v_came THEN public.ledger_calm(a, p_now) ELSE a END;
END
$$;

-- ---------------------------------------------------------------------------------------------- daily credits

-- Only names of places: abbreviations and offsets know no summer time, and the capital keeps out posix/ and right/.
CREATE FUNCTION public.ledger_check_time_zone(p_time_zone text) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_time_zone IS DISTINCT FROM 'UTC' AND (p_time_zone !~ '^[A-Z]' OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_timezone_names WHERE name = p_time_zone)) THEN
        RAISE EXCEPTION 'there is no time zone %', p_time_zone USING ERRCODE = 'TW011';
    END IF;
END
$$;

-- The credits of the person's local day, when that day has not been granted yet; else 0. The bucket that is named after
-- a date says whether it was: whoever moves to another time zone gets no date twice and loses none on which they come.
CREATE FUNCTION public.ledger_daily_due(a public.user_billing, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_today date := (p_now AT TIME ZONE a.time_zone)::date;
    v_credits bigint;
BEGIN
    IF a.daily_granted_on = v_today THEN
        RETURN 0;
    END IF;
    v_credits := (SELECT p.daily_credits FROM public.credit_plans p WHERE p.plan = a.plan);
    IF v_credits > 0 AND public.ledger_was_daily(a.user_id, v_today) THEN
        RETURN 0;
    END IF;
    RETURN v_credits;
END
$$;

CREATE FUNCTION public.ledger_was_daily(p_user_id text, p_date date) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.kind = 'daily' AND b.source_ref = p_date::text);
END
$$;

-- The first moment after p_now of the days after p_date; NULL when they have all begun. Not always 00:00, and not always
-- once: summer time leaves a midnight out, or ends with a second one (the Azores, Havana). So look where the clock
-- stands through the hours before the last reading of it.
CREATE FUNCTION public.ledger_midnight_after(p_date date, p_time_zone text, p_now timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT min(m.at)
        FROM generate_series(0, 12) AS quarters (back)
        CROSS JOIN LATERAL (
            SELECT (p_date + 1)::timestamp AT TIME ZONE p_time_zone - quarters.back * interval '15 minutes' AS at
        ) m
        WHERE m.at > p_now AND (m.at AT TIME ZONE p_time_zone)::date > p_date);
END
$$;

-- The next daily grant, for somebody who has today's: at the midnight of the next date that was not granted.
CREATE FUNCTION public.ledger_next_daily(a public.user_billing, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_credits bigint := (SELECT p.daily_credits FROM public.credit_plans p WHERE p.plan = a.plan);
    v_date date := (p_now AT TIME ZONE a.time_zone)::date;
BEGIN
    IF v_credits = 0 THEN
        RETURN NULL;
    END IF;
    WHILE public.ledger_was_daily(a.user_id, v_date + 1) LOOP
        v_date := v_date + 1;
    END LOOP;
    RETURN jsonb_build_object('credits', v_credits,
        'at', public.ledger_moment(public.ledger_midnight_after(v_date, a.time_zone, p_now)));
END
$$;

-- Today's credits, given; they end with the day. Called at the first use and the first look of a day, with
-- ledger_daily_due above 0.
CREATE FUNCTION public.ledger_grant_daily(a public.user_billing, p_credits bigint, p_txn_id uuid, p_now timestamptz)
RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    b public.credit_buckets;
BEGIN
    a.daily_granted_on := (p_now AT TIME ZONE a.time_zone)::date;
    b.kind := 'daily';
    b.granted := p_credits;
    b.source_ref := a.daily_granted_on::text;
    b.effective_at := p_now;
    b.expires_at := public.ledger_midnight_after(a.daily_granted_on, a.time_zone, p_now);
    RETURN (public.ledger_fill(a, b, 'grant', 'issued', p_txn_id, NULL, 'system', NULL, p_now)).account;
END
$$;

-- ---------------------------------------------------------------------------------------------- the decision

-- How far down an account is: 2 in debt or about to be, 1 little left, 0 neither.
CREATE FUNCTION public.ledger_threshold(a public.user_billing, p_available bigint, p_overdraft bigint) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN p_overdraft > 0 THEN 2 WHEN p_available < a.low_balance_threshold THEN 1 ELSE 0 END;
END
$$;

-- Tell each threshold that is crossed on the way down, once, until credits come in. To be written by ledger_post.
CREATE FUNCTION public.ledger_warn(a public.user_billing, p_available bigint, p_overdraft bigint, p_now timestamptz)
RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_level smallint := public.ledger_threshold(a, p_available, p_overdraft);
BEGIN
    IF v_level > a.warned THEN
        INSERT INTO public.credit_warnings (user_id, code, available, at)
        SELECT a.user_id, (ARRAY['low-balance', 'overdraft'])[t.level], p_available, p_now
        FROM generate_series(a.warned + 1, v_level) AS t (level)
        WHERE t.level = 2 OR p_available < a.low_balance_threshold;
        a.warned := v_level;
    END IF;
    RETURN a;
END
$$;

-- The verdict on p_amount for an account that has p_available to spend.
-- shortfall: credits that would have to arrive first (a debt is paid from them first). remaining: available - amount;
-- below zero the overdraft would be drawn, or credits are missing. affordable: the most that would not be blocked.
CREATE OR REPLACE FUNCTION public.ledger_judge(a public.user_billing, p_available bigint, p_amount bigint) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_missing bigint := greatest(p_amount - p_available, 0);
    v_room bigint := a.overdraft_limit - a.overdraft_used - a.overdraft_held;
    v_verdict text := 'allow';
    v_reasons text[] := '{}';
    v_shortfall bigint := 0;
BEGIN
    IF v_missing > 0 AND a.policy = 'hard' THEN
        v_verdict := 'block';
        v_reasons := '{insufficient-credits}';
        v_shortfall := v_missing + a.overdraft_used;
    ELSIF v_missing > 0 AND a.policy = 'soft' AND v_missing > v_room THEN
        v_verdict := 'block';
        v_reasons := CASE WHEN a.overdraft_limit > 0 THEN '{overdraft-limit}' ELSE '{insufficient-credits}' END;
        -- Not missing - room: once credits cover the amount, what is promised beyond a lowered limit is no matter.
        v_shortfall := v_missing + a.overdraft_used - greatest(a.overdraft_limit - a.overdraft_held, 0);
    ELSIF p_amount > 0 THEN
        IF v_missing > 0 THEN
            v_verdict := 'warn';
            v_reasons := '{overdraft}';
        END IF;
        IF p_available - p_amount < a.low_balance_threshold THEN
            v_verdict := 'warn';
            v_reasons := v_reasons || 'low-balance'::text;
        END IF;
    END IF;
    RETURN jsonb_build_object('verdict', v_verdict, 'reasons', v_reasons, 'shortfall', v_shortfall,
        'remaining', p_available - p_amount, 'affordable', CASE a.policy
            WHEN 'hard' THEN p_available
            WHEN 'soft' THEN p_available + greatest(v_room, 0) END,
        'balance', public.ledger_balance_json(a, p_available));
END
$$;

-- The account as the clock says it is, without writing: expired credits gone, today's given, debt paid from what became
-- effective. Equal to what ledger_refresh would leave behind, so that a quote and a submit judge the same account.
CREATE OR REPLACE FUNCTION public.ledger_peek(
    p_user_id text, p_now timestamptz, OUT account public.user_billing, OUT available bigint
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_expired bigint;
    v_daily bigint;
    v_repaid bigint;
BEGIN
    SELECT * INTO account FROM public.user_billing WHERE user_id = p_user_id;
    IF NOT FOUND THEN
        -- As a fresh account would be.
        account.user_id := p_user_id;
        account.posted := 0;
        account.held := 0;
        account.overdraft_used := 0;
        account.overdraft_held := 0;
        account.plan := 'free';
        account.time_zone := 'UTC';
    END IF;
    account := public.ledger_on_terms(account);
    SELECT coalesce(sum(b.remaining) FILTER (
            WHERE b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)), 0),
        coalesce(sum(b.remaining) FILTER (WHERE b.expires_at <= p_now), 0)
    INTO available, v_expired
    FROM public.credit_buckets b WHERE b.user_id = p_user_id AND b.live;
    v_daily := public.ledger_daily_due(account, p_now);
    v_repaid := least(available + v_daily, account.overdraft_used);
    available := available + v_daily - v_repaid;
    account.overdraft_used := account.overdraft_used - v_repaid;
    account.posted := account.posted - v_expired + v_daily - v_repaid;
END
$$;

-- What ledger_reserve would decide about p_amount now.
CREATE OR REPLACE FUNCTION public.ledger_decide(p_user_id text, p_amount bigint, p_now timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v record;
BEGIN
    IF p_amount IS NULL OR p_amount NOT BETWEEN 0 AND 1000000000000 THEN
        RAISE EXCEPTION 'a price is of 0 to 10^12 credits' USING ERRCODE = 'TW007';
    END IF;
    SELECT p.account, p.available INTO v FROM public.ledger_peek(p_user_id, v_now) p;
    RETURN public.ledger_judge(v.account, v.available, p_amount)
        || jsonb_build_object('next_daily', public.ledger_next_daily(v.account, v_now));
END
$$;

-- ---------------------------------------------------------------------------------------------- operations
-- `txn_id` in an outcome names the entries it stands for: ledger verification derives one from the other.

-- Open an account on given terms. True when it is new; an account that exists is left as it is. Terms other than the
-- usual ones are recorded, as whatever changes them later is.
CREATE OR REPLACE FUNCTION public.ledger_open_account(
    p_user_id text, p_policy public.credit_policy DEFAULT NULL, p_overdraft_limit bigint DEFAULT NULL,
    p_low_balance_threshold bigint DEFAULT NULL, p_plan text DEFAULT 'free', p_time_zone text DEFAULT 'UTC'
) RETURNS boolean LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing;
BEGIN
    PERFORM public.ledger_check_time_zone(p_time_zone);
    INSERT INTO public.user_billing
        (user_id, policy, overdraft_limit, low_balance_threshold, plan, time_zone)
    VALUES (p_user_id, p_policy, p_overdraft_limit, p_low_balance_threshold, p_plan, p_time_zone)
    ON CONFLICT DO NOTHING RETURNING * INTO a;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF public.ledger_terms_json(a) <> public.ledger_usual_terms() THEN
        PERFORM public.ledger_remember(p_user_id, 'opening:terms', 'open', sha256(''),
            jsonb_build_object('after', public.ledger_terms_json(a)), a.created_at, 'system');
    END IF;
    RETURN true;
END
$$;

-- Give credits as a new bucket; debt is paid from it first. Once per (user, kind, source_ref), whatever the key.
-- p_paid_amount, in the smallest unit of p_paid_currency (ISO 4217), makes it a purchase.
CREATE FUNCTION public.ledger_grant(
    p_user_id text, p_key text, p_amount bigint, p_kind public.credit_bucket_kind, p_source_ref text, p_actor text,
    p_priority integer DEFAULT NULL, p_effective_at timestamptz DEFAULT NULL, p_expires_at timestamptz DEFAULT NULL,
    p_now timestamptz DEFAULT NULL, p_paid_amount bigint DEFAULT NULL, p_paid_currency text DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_terms jsonb := jsonb_build_array('grant', p_amount, p_kind, p_source_ref, p_priority,
        extract(epoch FROM p_effective_at), extract(epoch FROM p_expires_at));
    v_request bytea;
    v_outcome jsonb;
    v_txn_id uuid := gen_random_uuid();
    v_filled record;
    b public.credit_buckets;
BEGIN
    IF p_paid_amount IS NOT NULL OR p_paid_currency IS NOT NULL THEN
        v_terms := v_terms || jsonb_build_array(p_paid_amount, p_paid_currency);
    END IF;
    v_request := sha256(convert_to(v_terms::text, 'UTF8'));
    v_outcome := public.ledger_replay(p_user_id, p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_amount IS NULL OR p_amount NOT BETWEEN 1 AND 1000000000000
        OR p_expires_at <= greatest(v_now, coalesce(p_effective_at, v_now)) THEN
        RAISE EXCEPTION 'a grant is of 1 to 10^12 credits that have not expired' USING ERRCODE = 'TW007';
    END IF;
    IF (p_paid_amount IS NULL) <> (p_paid_currency IS NULL)
        OR (p_paid_amount IS NOT NULL AND (p_kind <> 'paid' OR p_paid_amount < 0 OR p_paid_currency !~ '^[A-Z]{3}$')) THEN
        RAISE EXCEPTION 'money is an amount of 0 or more with its currency, for paid credits' USING ERRCODE = 'TW007';
    END IF;
    SELECT * INTO b FROM public.credit_buckets
    WHERE user_id = p_user_id AND kind = p_kind AND source_ref = p_source_ref;
    IF FOUND THEN
        IF (b.granted, b.priority) <> (p_amount, coalesce(p_priority, 100))
            OR b.expires_at IS DISTINCT FROM p_expires_at
            OR b.effective_at <> coalesce(p_effective_at, b.effective_at)
            OR (b.paid_amount, b.paid_currency) IS DISTINCT FROM (p_paid_amount, p_paid_currency) THEN
            RAISE EXCEPTION '% was granted before on other terms', p_source_ref USING ERRCODE = 'TW006';
        END IF;
        RETURN public.ledger_remember(p_user_id, p_key, 'grant', v_request, jsonb_build_object(
            'bucket_id', b.bucket_id, 'amount', b.granted,
            'balance', public.ledger_balance_json(a, public.ledger_spendable(p_user_id, v_now))
        ), v_now, p_actor) || '{"replayed": true}';
    END IF;
    b.kind := p_kind;
    b.priority := p_priority;
    b.granted := p_amount;
    b.effective_at := coalesce(p_effective_at, v_now);
    b.expires_at := p_expires_at;
    b.source_ref := p_source_ref;
    b.paid_amount := p_paid_amount;
    b.paid_currency := p_paid_currency;
    v_filled := public.ledger_fill(a, b, 'grant', 'issued', v_txn_id, NULL, p_actor, NULL, v_now);
    RETURN public.ledger_remember(p_user_id, p_key, 'grant', v_request, jsonb_build_object(
        'bucket_id', v_filled.bucket_id, 'amount', p_amount, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(v_filled.account, public.ledger_spendable(p_user_id, v_now))
    ), v_now, p_actor);
END
$$;

-- Promise credits to a generation, or say why not. The decision is ledger_judge's, as in a quote. A denial is an
-- outcome like any other: the same key gets it again. The deadline is not part of the request, so a retry that
-- computes a later one is still the same request.
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
    INSERT INTO public.credit_holds (hold_id, user_id, generation_id, quoted, price, created_at, expires_at)
    VALUES (v_hold_id, p_user_id, p_generation_id, p_amount, p_price, v_now, p_expires_at)
    ON CONFLICT (generation_id) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'generation % has a hold already', p_generation_id USING ERRCODE = 'TW005';
    END IF;
    INSERT INTO public.credit_hold_parts (hold_id, ordinal, bucket_id, amount)
    SELECT v_hold_id, m.ordinal, m.bucket_id, m.amount
    FROM unnest(v_moves) WITH ORDINALITY AS m (kind, from_leg, to_leg, amount, bucket_id, ordinal);
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

-- End an open hold: capture the first p_amount of it in the order it was taken, give the rest back in reverse, then do
-- what the returned credits ask for (expire with their bucket, pay debt) under the same transaction id.
DROP FUNCTION public.ledger_settle(
    public.user_billing, uuid, bigint, public.credit_hold_state, text, timestamptz);
CREATE FUNCTION public.ledger_settle(
    a public.user_billing, p_hold_id uuid, p_amount bigint, p_state public.credit_hold_state, p_reason text,
    p_txn_id uuid, p_now timestamptz
) RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_back public.credit_entry_kind := CASE p_state WHEN 'expired' THEN 'lapse' ELSE 'release' END;
    v_moves public.ledger_movement[] := '{}';
    v_returned public.ledger_movement[] := '{}';
    v_left bigint := p_amount;
    v_captured bigint;
    p record;
BEGIN
    FOR p IN
        SELECT q.ordinal, q.bucket_id, q.amount, b.expires_at
        FROM public.credit_hold_parts q LEFT JOIN public.credit_buckets b ON b.bucket_id = q.bucket_id
        WHERE q.hold_id = p_hold_id ORDER BY q.ordinal
    LOOP
        v_captured := least(p.amount, v_left);
        v_left := v_left - v_captured;
        UPDATE public.credit_hold_parts q SET captured = v_captured, released = p.amount - v_captured
        WHERE q.hold_id = p_hold_id AND q.ordinal = p.ordinal;
        IF v_captured > 0 THEN
            v_moves := v_moves || ROW('capture',
                CASE WHEN p.bucket_id IS NULL THEN 'overdraft_held' ELSE 'held' END, 'revenue',
                v_captured, p.bucket_id)::public.ledger_movement;
        END IF;
        IF v_captured < p.amount THEN
            -- In front of those before it: unwound in reverse.
            v_returned := ROW(v_back,
                CASE WHEN p.bucket_id IS NULL THEN 'overdraft_held' ELSE 'held' END,
                CASE WHEN p.bucket_id IS NULL THEN 'overdraft' ELSE 'available' END,
                p.amount - v_captured, p.bucket_id)::public.ledger_movement || v_returned;
            a.due_at := least(a.due_at, CASE WHEN p.expires_at <= p_now THEN p_now ELSE p.expires_at END);
        END IF;
    END LOOP;
    v_moves := v_moves || v_returned;
    UPDATE public.credit_holds h
    SET state = p_state, captured = p_amount, released = h.quoted - p_amount, settled_at = p_now,
        reason = p_reason, final = p_state <> 'expired'
    WHERE h.hold_id = p_hold_id;
    IF cardinality(v_moves) > 0 THEN
        a := public.ledger_post(a, v_moves, p_txn_id, p_hold_id, 'system', p_now);
    END IF;
    IF a.due_at <= p_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, p_txn_id, p_now);
    END IF;
    RETURN a;
END
$$;

-- Charge p_amount of a hold and give back the rest. After the hold has expired the charge is late: it comes from what
-- is available now, then from the overdraft, beyond its limit if need be, and is flagged.
CREATE OR REPLACE FUNCTION public.ledger_capture(
    p_hold_id uuid, p_key text, p_amount bigint, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_user_id text := (SELECT h.user_id FROM public.credit_holds h WHERE h.hold_id = p_hold_id);
    v_request bytea := sha256(convert_to(jsonb_build_array('capture', p_hold_id, p_amount)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    a public.user_billing;
    h public.credit_holds;
    v_now timestamptz;
    v_outcome jsonb;
    v_available bigint;
    v_moves public.ledger_movement[];
BEGIN
    IF v_user_id IS NULL THEN
        RAISE EXCEPTION 'there is no hold %', p_hold_id USING ERRCODE = 'TW002';
    END IF;
    a := public.ledger_lock(v_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay(v_user_id, p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    SELECT * INTO h FROM public.credit_holds WHERE hold_id = p_hold_id;
    IF h.final THEN
        RAISE EXCEPTION 'hold % is % already', p_hold_id, h.state USING ERRCODE = 'TW003';
    ELSIF p_amount IS NULL OR p_amount < 0 THEN
        RAISE EXCEPTION 'a capture is of 0 or more credits' USING ERRCODE = 'TW007';
    ELSIF p_amount > h.quoted THEN
        RAISE EXCEPTION 'hold % was for % credits, not %', p_hold_id, h.quoted, p_amount USING ERRCODE = 'TW004';
    END IF;
    IF h.state = 'open' THEN
        a := public.ledger_settle(a, p_hold_id, p_amount, 'captured', NULL, v_txn_id, v_now);
    ELSE
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
        'captured', p_amount, 'released', h.quoted - p_amount, 'late', h.state = 'expired',
        'hold_id', p_hold_id, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(a, public.ledger_spendable(v_user_id, v_now))
    ), v_now, 'system');
END
$$;

-- Give a whole hold back. A hold that has expired gave it back already; releasing it then says that nothing will come
-- late, and moves nothing. The reason is a note, not part of the request.
CREATE OR REPLACE FUNCTION public.ledger_release(
    p_hold_id uuid, p_key text, p_reason text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_user_id text := (SELECT h.user_id FROM public.credit_holds h WHERE h.hold_id = p_hold_id);
    v_request bytea := sha256(convert_to(jsonb_build_array('release', p_hold_id)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    a public.user_billing;
    h public.credit_holds;
    v_now timestamptz;
    v_outcome jsonb;
BEGIN
    IF v_user_id IS NULL THEN
        RAISE EXCEPTION 'there is no hold %', p_hold_id USING ERRCODE = 'TW002';
    END IF;
    a := public.ledger_lock(v_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay(v_user_id, p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    SELECT * INTO h FROM public.credit_holds WHERE hold_id = p_hold_id;
    IF h.final THEN
        RAISE EXCEPTION 'hold % is % already', p_hold_id, h.state USING ERRCODE = 'TW003';
    END IF;
    IF h.state = 'open' THEN
        a := public.ledger_settle(a, p_hold_id, 0, 'released', p_reason, v_txn_id, v_now);
    ELSE
        UPDATE public.credit_holds SET final = true, reason = p_reason WHERE hold_id = p_hold_id;
    END IF;
    RETURN public.ledger_remember(v_user_id, p_key, 'release', v_request, jsonb_build_object(
        'captured', 0, 'released', h.quoted, 'late', false, 'hold_id', p_hold_id, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(a, public.ledger_spendable(v_user_id, v_now))
    ), v_now, 'system');
END
$$;

-- Write down what the clock has done to one account: open holds past their end, then buckets past theirs. By its
-- nature idempotent, so it takes no key. Returns how many holds lapsed and how many credits expired.
CREATE OR REPLACE FUNCTION public.ledger_expire(p_user_id text, p_now timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_from_seq bigint := a.seq;
    v_holds integer := 0;
    v_hold_id uuid;
BEGIN
    IF a.holds_due_at <= v_now THEN
        FOR v_hold_id IN
            SELECT h.hold_id FROM public.credit_holds h
            WHERE h.user_id = p_user_id AND h.expires_at BETWEEN a.holds_due_at AND v_now AND h.state = 'open'
            ORDER BY h.expires_at, h.hold_id
        LOOP
            a := public.ledger_settle(a, v_hold_id, 0, 'expired', 'the hold ran out', gen_random_uuid(), v_now);
            v_holds := v_holds + 1;
        END LOOP;
        a.holds_due_at := (
            SELECT min(h.expires_at) FROM public.credit_holds h
            WHERE h.user_id = p_user_id AND h.expires_at > v_now AND h.state = 'open');
        a := public.ledger_tidy(a, gen_random_uuid(), v_now);
    ELSIF a.due_at <= v_now THEN
        a := public.ledger_tidy(a, gen_random_uuid(), v_now);
    END IF;
    RETURN jsonb_build_object('holds', v_holds, 'credits', (
        SELECT coalesce(sum(e.amount), 0) FROM public.credit_entries e
        WHERE e.user_id = p_user_id AND e.seq > v_from_seq AND e.kind = 'expire'));
END
$$;

-- The sweep, as before; but each account's time is taken when it is locked, not when the round began.
CREATE OR REPLACE FUNCTION public.ledger_expire_due(p_limit integer, p_now timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_user_ids text[];
    v_user_id text;
    v_expired jsonb;
    v_holds bigint := 0;
    v_credits bigint := 0;
    v_failed integer := 0;
BEGIN
    v_user_ids := ARRAY(
        SELECT u.user_id FROM public.user_billing u
        WHERE u.due_at <= v_now OR u.holds_due_at <= v_now
        LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED);
    FOREACH v_user_id IN ARRAY v_user_ids LOOP
        BEGIN
            v_expired := public.ledger_expire(v_user_id, p_now);
            v_holds := v_holds + (v_expired ->> 'holds')::bigint;
            v_credits := v_credits + (v_expired ->> 'credits')::bigint;
        EXCEPTION WHEN check_violation THEN
            v_failed := v_failed + 1;
        END;
    END LOOP;
    RETURN jsonb_build_object('accounts', cardinality(v_user_ids) - v_failed, 'holds', v_holds,
        'credits', v_credits, 'failed', v_failed);
END
$$;

-- A person looks: what the clock has done is written down, and today's credits are given. True when anything was.
-- Looks first without the lock: most looks find nothing to do.
CREATE FUNCTION public.ledger_refresh(p_user_id text, p_now timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    a public.user_billing;
    v_daily bigint;
BEGIN
    SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id;
    IF NOT FOUND THEN
        a.plan := 'free';
        a.time_zone := 'UTC';
    END IF;
    IF public.ledger_daily_due(a, v_now) = 0
        AND coalesce(a.due_at > v_now, true) AND coalesce(a.holds_due_at > v_now, true) THEN
        RETURN false;
    END IF;
    PERFORM public.ledger_expire(p_user_id, p_now);
    a := public.ledger_lock(p_user_id);
    -- What time it is counts from the lock on: somebody else's entries may have come in while we waited for it.
    v_now := coalesce(p_now, clock_timestamp());
    v_daily := public.ledger_daily_due(a, v_now);
    IF v_daily > 0 THEN
        a := public.ledger_grant_daily(a, v_daily, gen_random_uuid(), v_now);
    END IF;
    RETURN true;
END
$$;

-- ---------------------------------------------------------------------------------------------- corrections

-- Put right what somebody has, up or down, saying why. Up is a bucket of its own under the key as source_ref (debt is
-- paid first); down is taken in spending order, all of it or nothing.
CREATE FUNCTION public.ledger_adjust(
    p_user_id text, p_key text, p_amount bigint, p_reason text, p_actor text, p_expires_at timestamptz DEFAULT NULL,
    p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_request bytea := sha256(convert_to(
        jsonb_build_array('adjust', p_amount, p_reason, extract(epoch FROM p_expires_at))::text, 'UTF8'));
    v_outcome jsonb := public.ledger_replay(p_user_id, p_key, v_request);
    v_txn_id uuid := gen_random_uuid();
    v_detail jsonb := jsonb_build_object('reason', p_reason);
    v_filled record;
    v_available bigint;
    v_moves public.ledger_movement[];
    b public.credit_buckets;
BEGIN
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_amount IS NULL OR p_amount = 0 OR p_amount NOT BETWEEN -1000000000000 AND 1000000000000 OR coalesce(p_reason, '') = ''
        OR (p_expires_at IS NOT NULL AND (p_amount < 0 OR p_expires_at <= v_now)) THEN
        RAISE EXCEPTION 'an adjustment is of up to 10^12 credits, not 0, and has a reason; only credits that are given expire, later than now'
            USING ERRCODE = 'TW007';
    END IF;
    IF p_amount > 0 THEN
        IF EXISTS (
            SELECT FROM public.credit_buckets WHERE user_id = p_user_id AND kind = 'adjust' AND source_ref = p_key
        ) THEN
            RAISE EXCEPTION '% was granted before on other terms', p_key USING ERRCODE = 'TW006';
        END IF;
        b.kind := 'adjust';
        b.granted := p_amount;
        b.effective_at := v_now;
        b.expires_at := p_expires_at;
        b.source_ref := p_key;
        v_filled := public.ledger_fill(a, b, 'adjust', 'issued', v_txn_id, NULL, p_actor, v_detail, v_now);
        a := v_filled.account;
    ELSE
        IF a.due_at <= v_now OR a.overdraft_used > 0 THEN
            a := public.ledger_tidy(a, gen_random_uuid(), v_now);
        END IF;
        SELECT d.available, d.moves INTO v_available, v_moves
        FROM public.ledger_draw(p_user_id, -p_amount, 'adjust', 'reversed', v_now) d;
        IF v_available < -p_amount THEN
            RAISE EXCEPTION 'only % credits can be taken', v_available USING ERRCODE = 'TW009';
        END IF;
        a := public.ledger_warn(a, v_available + p_amount, a.overdraft_used + a.overdraft_held, v_now);
        a := public.ledger_post(a, v_moves, v_txn_id, NULL, p_actor, v_now, v_detail);
    END IF;
    RETURN public.ledger_remember(p_user_id, p_key, 'adjust', v_request, jsonb_build_object(
        'amount', p_amount, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(a, public.ledger_spendable(p_user_id, v_now))
    ), v_now, p_actor, v_detail);
END
$$;

-- Take a grant back: what is left of it, or p_amount of that, never what was spent. With p_amount NULL the grant is
-- over: what running work gives back to it later expires. Once; the same again is a replay.
CREATE FUNCTION public.ledger_reverse_grant(
    p_user_id text, p_kind public.credit_bucket_kind, p_source_ref text, p_amount bigint, p_reason text, p_actor text,
    p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_request bytea := sha256(convert_to(jsonb_build_array('reverse-grant', p_amount, p_reason)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    v_detail jsonb := jsonb_build_object('reason', p_reason);
    v_key text;
    v_outcome jsonb;
    v_amount bigint;
    b public.credit_buckets;
BEGIN
    SELECT * INTO b FROM public.credit_buckets
    WHERE user_id = p_user_id AND kind = p_kind AND source_ref = p_source_ref;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no % grant %', p_kind, p_source_ref USING ERRCODE = 'TW012';
    END IF;
    v_key := 'reverse:' || b.bucket_id;
    v_outcome := public.ledger_replay(p_user_id, v_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_amount NOT BETWEEN 1 AND b.granted OR coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'a reversal is of 1 to % credits and has a reason', b.granted USING ERRCODE = 'TW007';
    END IF;
    IF a.due_at <= v_now THEN
        a := public.ledger_tidy(a, gen_random_uuid(), v_now);
        SELECT * INTO b FROM public.credit_buckets WHERE bucket_id = b.bucket_id;
    END IF;
    v_amount := least(b.remaining, coalesce(p_amount, b.remaining));
    IF p_amount IS NULL AND (b.expires_at IS NULL OR b.expires_at > v_now) THEN
        b.expires_at := greatest(v_now, b.effective_at + interval '1 microsecond');
        UPDATE public.credit_buckets SET expires_at = b.expires_at WHERE bucket_id = b.bucket_id;
        a.due_at := least(a.due_at, b.expires_at);
    END IF;
    IF v_amount > 0 THEN
        a := public.ledger_warn(a, public.ledger_spendable(p_user_id, v_now)
            - CASE WHEN b.effective_at <= v_now AND coalesce(b.expires_at > v_now, true) THEN v_amount ELSE 0 END,
            a.overdraft_used + a.overdraft_held, v_now);
        a := public.ledger_post(a,
            ARRAY[ROW('reverse', 'available', 'reversed', v_amount, b.bucket_id)::public.ledger_movement],
            v_txn_id, NULL, p_actor, v_now, v_detail);
    END IF;
    RETURN public.ledger_remember(p_user_id, v_key, 'reverse', v_request, jsonb_build_object(
        'bucket_id', b.bucket_id, 'amount', -v_amount, 'spent', b.granted - b.remaining - b.held, 'txn_id', v_txn_id,
        'expires_at', public.ledger_moment(b.expires_at),
        'balance', public.ledger_balance_json(a, public.ledger_spendable(p_user_id, v_now))
    ), v_now, p_actor, v_detail);
END
$$;

-- Give back what a hold was charged, or p_amount of it, as a bucket that does not expire; debt is paid first. Once; the
-- same again is a replay. The hold itself stays as it was settled.
CREATE FUNCTION public.ledger_reverse_charge(
    p_hold_id uuid, p_amount bigint, p_reason text, p_actor text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_user_id text := (SELECT h.user_id FROM public.credit_holds h WHERE h.hold_id = p_hold_id);
    v_key text := 'reverse:' || p_hold_id;
    v_request bytea := sha256(convert_to(jsonb_build_array('reverse-charge', p_amount, p_reason)::text, 'UTF8'));
    v_txn_id uuid := gen_random_uuid();
    v_detail jsonb := jsonb_build_object('reason', p_reason);
    a public.user_billing;
    h public.credit_holds;
    b public.credit_buckets;
    v_now timestamptz;
    v_outcome jsonb;
    v_filled record;
BEGIN
    IF v_user_id IS NULL THEN
        RAISE EXCEPTION 'there is no hold %', p_hold_id USING ERRCODE = 'TW002';
    END IF;
    a := public.ledger_lock(v_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay(v_user_id, v_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    SELECT * INTO h FROM public.credit_holds WHERE hold_id = p_hold_id;
    IF h.captured + h.late_captured = 0 THEN
        RAISE EXCEPTION 'hold % has not been charged', p_hold_id USING ERRCODE = 'TW013';
    ELSIF p_amount > h.captured + h.late_captured THEN
        RAISE EXCEPTION 'hold % was charged % credits, not %', p_hold_id, h.captured + h.late_captured, p_amount
            USING ERRCODE = 'TW004';
    ELSIF p_amount < 1 OR coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'a reversal is of 1 or more credits and has a reason' USING ERRCODE = 'TW007';
    END IF;
    b.kind := 'adjust';
    b.granted := coalesce(p_amount, h.captured + h.late_captured);
    b.effective_at := v_now;
    b.source_ref := v_key;
    v_filled := public.ledger_fill(a, b, 'reverse', 'revenue', v_txn_id, p_hold_id, p_actor, v_detail, v_now);
    RETURN public.ledger_remember(v_user_id, v_key, 'reverse', v_request, jsonb_build_object(
        'bucket_id', v_filled.bucket_id, 'hold_id', p_hold_id, 'amount', b.granted, 'txn_id', v_txn_id,
        'balance', public.ledger_balance_json(v_filled.account, public.ledger_spendable(v_user_id, v_now))
    ), v_now, p_actor, v_detail);
END
$$;

-- ---------------------------------------------------------------------------------------------- terms

CREATE FUNCTION public.ledger_terms_json(u public.user_billing) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('plan', u.plan, 'policy', u.policy, 'overdraft_limit', u.overdraft_limit,
        'low_balance_threshold', u.low_balance_threshold, 'time_zone', u.time_zone)
$$;

-- Those of an account that somebody's first act or look opened.
CREATE FUNCTION public.ledger_usual_terms() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"plan": "free", "policy": null, "overdraft_limit": null, "low_balance_threshold": null, "time_zone": "UTC"}'::jsonb
$$;

-- Change somebody's plan, policy, overdraft_limit or low_balance_threshold: only what p_terms names; null is the
-- plan's again. The outcome tells what was and what is, so that a mistake can be undone.
CREATE FUNCTION public.ledger_set_terms(
    p_user_id text, p_key text, p_terms jsonb, p_reason text, p_actor text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_request bytea := sha256(convert_to(jsonb_build_array('set-terms', p_terms, p_reason)::text, 'UTF8'));
    v_outcome jsonb := public.ledger_replay(p_user_id, p_key, v_request);
    v_before public.user_billing;
    v_after public.user_billing;
BEGIN
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF NOT EXISTS (SELECT FROM public.credit_plans WHERE plan = coalesce(p_terms ->> 'plan', a.plan)) THEN
        RAISE EXCEPTION 'there is no plan %', p_terms ->> 'plan' USING ERRCODE = 'TW010';
    END IF;
    IF (p_terms ->> 'overdraft_limit')::bigint > 1000000000000
        OR (p_terms ->> 'low_balance_threshold')::bigint > 1000000000000 THEN
        RAISE numeric_value_out_of_range;
    END IF;
    SELECT * INTO v_before FROM public.user_billing WHERE user_id = p_user_id;
    UPDATE public.user_billing u SET
        plan = coalesce(p_terms ->> 'plan', u.plan),
        policy = CASE WHEN p_terms ? 'policy' THEN (p_terms ->> 'policy')::public.credit_policy ELSE u.policy END,
        overdraft_limit = CASE WHEN p_terms ? 'overdraft_limit'
            THEN (p_terms ->> 'overdraft_limit')::bigint ELSE u.overdraft_limit END,
        low_balance_threshold = CASE WHEN p_terms ? 'low_balance_threshold'
            THEN (p_terms ->> 'low_balance_threshold')::bigint ELSE u.low_balance_threshold END
    WHERE u.user_id = p_user_id RETURNING * INTO v_after;
    RETURN public.ledger_remember(p_user_id, p_key, 'set-terms', v_request, jsonb_build_object(
        'before', public.ledger_terms_json(v_before), 'after', public.ledger_terms_json(v_after)
    ), v_now, p_actor, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
EXCEPTION
    WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION 'a policy is hard, soft or off; limits are of 0 to 10^12 credits' USING ERRCODE = 'TW007';
END
$$;

-- Make a plan, or change what p_terms names of it.
CREATE FUNCTION public.ledger_set_plan(
    p_plan text, p_key text, p_terms jsonb, p_reason text, p_actor text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_request bytea := sha256(convert_to(jsonb_build_array('set-plan', p_plan, p_terms, p_reason)::text, 'UTF8'));
    v_outcome jsonb;
    v_before public.credit_plans;
    v_after public.credit_plans;
BEGIN
    -- Plans are few and seldom change: one writer at a time, readers are not kept waiting.
    LOCK TABLE public.credit_plans IN SHARE ROW EXCLUSIVE MODE;
    v_outcome := public.ledger_replay('plans', p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    SELECT * INTO v_before FROM public.credit_plans WHERE plan = p_plan;
    INSERT INTO public.credit_plans (plan) VALUES (p_plan) ON CONFLICT DO NOTHING;
    UPDATE public.credit_plans p SET
        daily_credits = coalesce((p_terms ->> 'daily_credits')::bigint, p.daily_credits),
        policy = coalesce((p_terms ->> 'policy')::public.credit_policy, p.policy),
        overdraft_limit = coalesce((p_terms ->> 'overdraft_limit')::bigint, p.overdraft_limit),
        low_balance_threshold = coalesce((p_terms ->> 'low_balance_threshold')::bigint, p.low_balance_threshold),
        weight = coalesce((p_terms ->> 'weight')::integer, p.weight)
    WHERE p.plan = p_plan RETURNING * INTO v_after;
    RETURN public.ledger_remember('plans', p_key, 'set-plan', v_request, jsonb_build_object(
        'before', CASE WHEN v_before.plan IS NOT NULL THEN to_jsonb(v_before) END, 'after', to_jsonb(v_after)
    ), coalesce(p_now, clock_timestamp()), p_actor, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
EXCEPTION
    WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION 'a plan has 1 to 64 characters, whole credits in range and a weight of 1 to 1000'
            USING ERRCODE = 'TW007';
END
$$;

-- Move a person's midnight. Credits of a day that is not over in the new zone last until it is. Nothing is recorded when
-- nothing changes.
CREATE FUNCTION public.ledger_set_time_zone(
    p_user_id text, p_time_zone text, p_actor text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing;
    v_now timestamptz;
    v_outcome jsonb;
    v_kept jsonb;
BEGIN
    PERFORM public.ledger_check_time_zone(p_time_zone);
    a := public.ledger_lock(p_user_id);
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := jsonb_build_object('before', a.time_zone, 'after', p_time_zone);
    IF a.time_zone = p_time_zone THEN
        RETURN v_outcome;
    END IF;
    UPDATE public.user_billing SET time_zone = p_time_zone WHERE user_id = p_user_id;
    -- No two places are more than two dates apart.
    WITH kept AS (
        UPDATE public.credit_buckets b SET expires_at = days.ends_at
        FROM (
            SELECT t.date, public.ledger_midnight_after(t.date, p_time_zone, v_now) AS ends_at
            FROM generate_series(0, 2) AS ahead (days)
            CROSS JOIN LATERAL (SELECT (v_now AT TIME ZONE p_time_zone)::date + ahead.days AS date) t
        ) days
        WHERE b.user_id = p_user_id AND b.kind = 'daily' AND b.source_ref = days.date::text AND b.live
            AND b.expires_at > v_now AND b.expires_at < days.ends_at
        RETURNING b.bucket_id, b.expires_at
    )
    SELECT jsonb_agg(jsonb_build_object('bucket_id', k.bucket_id, 'expires_at', public.ledger_moment(k.expires_at))
        ORDER BY k.bucket_id) INTO v_kept
    FROM kept k;
    IF v_kept IS NOT NULL THEN
        v_outcome := v_outcome || jsonb_build_object('buckets', v_kept);
    END IF;
    PERFORM public.ledger_remember(p_user_id, 'time-zone:' || gen_random_uuid(), 'set-time-zone',
        sha256(convert_to(p_time_zone, 'UTF8')), v_outcome, v_now, p_actor);
    RETURN v_outcome;
END
$$;

-- ---------------------------------------------------------------------------------------------- looking back

-- The last entry of an account at or before a moment; 0 when there is none. Entries of an account are in the order of
-- time, so halving the sequence finds it by the primary key, without an index that every entry would have to pay for.
CREATE FUNCTION public.ledger_seq_at(p_user_id text, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    v_low bigint := 0;
    v_high bigint := coalesce((SELECT max(e.seq) FROM public.credit_entries e WHERE e.user_id = p_user_id), 0);
    v_middle bigint;
BEGIN
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high + 1) / 2;
        IF (SELECT e.at FROM public.credit_entries e WHERE e.user_id = p_user_id AND e.seq = v_middle) <= p_at THEN
            v_low := v_middle;
        ELSE
            v_high := v_middle - 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;

-- The books as they stood after that entry; zeros before the first.
CREATE FUNCTION public.ledger_books_at(p_user_id text, p_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    e public.credit_entries;
BEGIN
    SELECT * INTO e FROM public.credit_entries
    WHERE user_id = p_user_id AND seq = public.ledger_seq_at(p_user_id, p_at);
    RETURN jsonb_build_object('seq', coalesce(e.seq, 0), 'posted', coalesce(e.posted_after, 0),
        'held', coalesce(e.held_after + e.overdraft_held_after, 0), 'overdraft_used', coalesce(e.overdraft_used_after, 0));
END
$$;

-- ---------------------------------------------------------------------------------------------- who may do what
-- As before: nobody but the owner, whatever the roles of a browser are given by default.

DO $$
DECLARE
    v_role text;
    v_function regprocedure;
BEGIN
    FOR v_role IN
        SELECT 'PUBLIC' UNION ALL
        SELECT quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON public.credit_plans, public.credit_warnings FROM %s', v_role);
        EXECUTE format('REVOKE ALL ON SEQUENCE public.credit_warnings_warning_id_seq FROM %s', v_role);
        FOR v_function IN
            SELECT p.oid FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\_%'
        LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_function, v_role);
        END LOOP;
    END LOOP;
END
$$;
