-- The same money once more, for fewer statements: what is decided stays. Each statement in a function is begun and ended
-- anew; in a reserve and a capture that is a fifth of all there is to do. Measured with `make bench-ledger`.

-- Lock the account, opening it when it is new, and read it on the terms that count, as ledger_on_terms does. Whoever reads
-- afterwards does so in a statement of their own. Again after an opening, and when the plan changed while the row was
-- waited for: then the join finds nothing.
CREATE OR REPLACE FUNCTION public.ledger_lock(p_user_id text) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    -- To stand in line is an expression here: as a statement it takes longer than all else that it does.
    v_in_line text := pg_advisory_xact_lock(public.ledger_line(p_user_id))::text;
    r record;
    a public.user_billing;
BEGIN
    LOOP
        SELECT u AS account, coalesce(u.policy, p.policy) AS policy,
            coalesce(u.overdraft_limit, p.overdraft_limit) AS overdraft_limit,
            coalesce(u.low_balance_threshold, p.low_balance_threshold) AS low_balance_threshold
        INTO r
        FROM public.user_billing u INNER JOIN public.credit_plans p ON u.plan = p.plan
        WHERE u.user_id = p_user_id FOR NO KEY UPDATE OF u;
        EXIT WHEN FOUND;
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
    END LOOP;
    a := r.account;
    a.policy := r.policy;
    a.overdraft_limit := r.overdraft_limit;
    a.low_balance_threshold := r.low_balance_threshold;
    RETURN a;
END
$$;

-- Not in SQL: what calls it could not have it in line, and a function in SQL is begun like a statement.
CREATE OR REPLACE FUNCTION public.ledger_balance_json(a public.user_billing, p_available bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN jsonb_build_object('available', p_available, 'held', a.held + a.overdraft_held, 'posted', a.posted,
        'overdraft_used', a.overdraft_used, 'overdraft_limit', a.overdraft_limit);
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
    INSERT INTO public.credit_holds (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at)
    VALUES (v_hold_id, p_user_id, p_generation_id, 1, p_amount, p_price, v_now, p_expires_at)
    ON CONFLICT (generation_id, round) DO NOTHING;
    IF NOT FOUND THEN
        INSERT INTO public.credit_holds (hold_id, user_id, generation_id, round, quoted, price, created_at, expires_at)
        SELECT v_hold_id, p_user_id, p_generation_id, max(h.round) + 1, p_amount, p_price, v_now, p_expires_at
        FROM public.credit_holds h WHERE h.generation_id = p_generation_id
        HAVING bool_and(h.user_id = p_user_id AND h.final AND h.captured + h.late_captured = 0)
        ON CONFLICT (generation_id, round) DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'generation % has a hold already', p_generation_id USING ERRCODE = 'TW005';
        END IF;
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

-- ---------------------------------------------------------------------------------------------- warnings
-- What the clock and a debt ask for: write down expired buckets, pay debt from what can be spent, look up the next due
-- time. Called when either may have something to do; a held credit is not in `remaining` and so cannot expire. Nothing
-- due is ever left standing, so a bucket that becomes effective between due_at and now has come in since.
-- Credits that were there from the first moment came in when they were given, and whoever was told of a threshold is told
-- again since then: not once more because other credits come back, and expire, in the same moment.
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
            WHERE b.user_id = a.user_id AND b.live AND b.effective_at BETWEEN a.due_at AND p_now
                AND b.effective_at > b.created_at);
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

-- ---------------------------------------------------------------------------------------------- places
-- That there is a place of this name, Postgres finds by reading the files of all there are: tens of milliseconds for each
-- account that is opened in one or moves there. So the names of today are kept; one that came since is still found.
CREATE TABLE public.time_zones (name text PRIMARY KEY);
INSERT INTO public.time_zones (name) SELECT z.name FROM pg_catalog.pg_timezone_names z WHERE z.name ~ '^[A-Z]';
ALTER TABLE public.time_zones ENABLE ROW LEVEL SECURITY;
SELECT public.access_to_table('public.time_zones', 'server only', 'Nobody asks for it.');

CREATE OR REPLACE FUNCTION public.ledger_check_time_zone(p_time_zone text) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_time_zone = 'UTC' OR EXISTS (SELECT FROM public.time_zones z WHERE z.name = p_time_zone) THEN
        RETURN;
    END IF;
    IF p_time_zone IS NULL OR p_time_zone !~ '^[A-Z]' OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_timezone_names z WHERE z.name = p_time_zone) THEN
        RAISE EXCEPTION 'there is no time zone %', p_time_zone USING ERRCODE = 'TW011';
    END IF;
END
$$;

SELECT public.access_to_functions();
