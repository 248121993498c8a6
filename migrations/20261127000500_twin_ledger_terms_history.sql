-- On which terms somebody had credits is history, too: what changed an account's terms, its time zone or a plan is a chain
-- like that of entries. Each of these operations seals the one before it, says after which entry of the account it came, and
-- the row whose terms it set remembers its hash. So `twin verify` can tell which limit, plan and day were in force at any
-- entry, and what was changed and set back is not forgotten with its record.
--
-- A reserve answers when its hold ends, so that nobody moves the end unseen. And whoever takes credits of somebody, for a
-- late result or by an adjustment, first gives the day's, as a reserve does: the balance shows them.
-- squawk-ignore-file require-concurrent-index-creation, adding-field-with-default, constraint-missing-not-valid

-- All tables or none, as in …_fewer_rows.
DO $$
BEGIN
    FOR i IN 1 .. 400 LOOP
        BEGIN
            LOCK TABLE public.user_billing, public.credit_plans, public.credit_holds, public.credit_entries,
                public.credit_operations IN ACCESS EXCLUSIVE MODE NOWAIT;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN PERFORM pg_sleep(0.025);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = 'the ledger was at work for ten seconds without a pause: migrate when it has one';
END
$$;

ALTER TABLE public.credit_operations
    ADD COLUMN terms_seq bigint,
    ADD COLUMN after_seq bigint,
    ADD COLUMN terms_hash bytea;
-- Of the operation that set them last; NULL: none ever did.
ALTER TABLE public.user_billing ADD COLUMN terms_hash bytea;
ALTER TABLE public.credit_plans ADD COLUMN terms_hash bytea;

CREATE UNIQUE INDEX credit_operations_terms ON public.credit_operations (scope, terms_seq) WHERE terms_seq IS NOT NULL;

CREATE OR REPLACE FUNCTION public.ledger_check_operation(o public.credit_operations) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN length(o.key) BETWEEN 1 AND 255 AND length(o.request_hash) = 32
        AND (o.terms_seq IS NOT NULL) = (o.kind IN ('open', 'set-terms', 'set-time-zone', 'set-plan'))
        AND (o.terms_seq IS NULL) = (o.terms_hash IS NULL);
END
$$;

-- The hash of an operation on terms: of the one before it in its scope, and of itself as a JSON array.
CREATE FUNCTION public.ledger_terms_hash(p_previous bytea, o public.credit_operations) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(p_previous || convert_to(jsonb_build_array(o.scope, o.terms_seq, o.after_seq, o.key, o.kind,
        encode(o.request_hash, 'hex'), o.outcome, (extract(epoch FROM o.created_at) * 1000000)::bigint, o.actor,
        o.detail)::text, 'UTF8'))
$$;

-- Write down what set somebody's terms, or a plan's; whoever calls has locked them, and has changed them already.
CREATE FUNCTION public.ledger_remember_terms(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz, p_actor text,
    p_detail jsonb DEFAULT NULL, p_after_seq bigint DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    o public.credit_operations;
    v_previous record;
BEGIN
    SELECT l.terms_seq, l.terms_hash INTO v_previous FROM public.credit_operations l
    WHERE l.scope = p_scope AND l.terms_seq IS NOT NULL ORDER BY l.terms_seq DESC LIMIT 1;
    o.scope := p_scope;
    o.key := p_key;
    o.kind := p_kind;
    o.request_hash := p_request_hash;
    o.outcome := p_outcome;
    o.created_at := p_now;
    o.actor := p_actor;
    o.detail := p_detail;
    o.terms_seq := coalesce(v_previous.terms_seq, 0) + 1;
    o.after_seq := p_after_seq;
    o.terms_hash := public.ledger_terms_hash(
        coalesce(v_previous.terms_hash, '\x0000000000000000000000000000000000000000000000000000000000000000'), o);
    INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail, terms_seq,
        after_seq, terms_hash)
    VALUES (o.scope, o.key, o.kind, o.request_hash, o.outcome, o.created_at, o.actor, o.detail, o.terms_seq,
        o.after_seq, o.terms_hash);
    IF p_kind = 'set-plan' THEN
        UPDATE public.credit_plans SET terms_hash = o.terms_hash WHERE plan = p_outcome -> 'after' ->> 'plan';
    ELSE
        UPDATE public.user_billing SET terms_hash = o.terms_hash WHERE user_id = p_scope;
    END IF;
    RETURN p_outcome || '{"replayed": false}';
END
$$;

-- What was remembered before, in the order it was made.
ALTER TABLE public.credit_operations DISABLE TRIGGER credit_operations_append_only;
DO $$
DECLARE
    o public.credit_operations;
    v_scope text;
    v_seq bigint;
    v_hash bytea;
BEGIN
    FOR o IN
        SELECT * FROM public.credit_operations
        WHERE kind IN ('open', 'set-terms', 'set-time-zone', 'set-plan') AND kind NOT IN ('reserve', 'capture', 'release')
        ORDER BY scope, kind <> 'open', created_at, key
    LOOP
        IF o.scope IS DISTINCT FROM v_scope THEN
            v_scope := o.scope;
            v_seq := 0;
            v_hash := '\x0000000000000000000000000000000000000000000000000000000000000000';
        END IF;
        v_seq := v_seq + 1;
        o.terms_seq := v_seq;
        IF o.kind <> 'set-plan' THEN
            o.after_seq := CASE WHEN o.kind = 'open' THEN 0
                ELSE public.ledger_seq_at(o.scope, o.created_at - interval '1 microsecond') END;
        END IF;
        v_hash := public.ledger_terms_hash(v_hash, o);
        UPDATE public.credit_operations u SET terms_seq = o.terms_seq, after_seq = o.after_seq, terms_hash = v_hash
        WHERE u.scope = o.scope AND u.key = o.key;
        UPDATE public.user_billing u SET terms_hash = v_hash WHERE u.user_id = o.scope AND o.kind <> 'set-plan';
        UPDATE public.credit_plans p SET terms_hash = v_hash
        WHERE p.plan = o.outcome -> 'after' ->> 'plan' AND o.kind = 'set-plan';
    END LOOP;
END
$$;
UPDATE public.credit_operations o SET outcome = o.outcome || jsonb_build_object('expires_at', public.ledger_moment(h.expires_at))
FROM public.credit_holds h
WHERE h.state = 'open' AND o.scope = h.user_id AND o.kind = 'reserve' AND o.outcome ->> 'hold_id' = h.hold_id::text;
ALTER TABLE public.credit_operations ENABLE TRIGGER credit_operations_append_only;

-- The day it is at a place, and when it ends; neither where there is no such place. For verification: what an operation
-- says is not believed to be a time zone.
CREATE FUNCTION public.ledger_day(p_at timestamptz, p_time_zone text, OUT date date, OUT ends_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    date := (p_at AT TIME ZONE p_time_zone)::date;
    ends_at := public.ledger_midnight_after(date, p_time_zone, p_at);
EXCEPTION
    WHEN invalid_parameter_value THEN
        NULL;
END
$$;

-- What a plan is before anything is said about it.
CREATE FUNCTION public.ledger_new_plan() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"daily_credits": 0, "policy": "soft", "overdraft_limit": 0, "low_balance_threshold": 10, "weight": 1}'::jsonb
$$;

-- What was said about a plan at that moment, give or take a minute: whoever asked may have seen the plan before a change was
-- committed, and clocks step back.
CREATE FUNCTION public.ledger_plan_at(p_plan text, p_at timestamptz) RETURNS TABLE (terms jsonb)
LANGUAGE sql STABLE AS $$
    SELECT s.terms
    FROM (
        SELECT n.terms, n.since, lead(n.since, 1, 'infinity') OVER (ORDER BY n.terms_seq) AS until
        FROM (
            SELECT 0 AS terms_seq, '-infinity'::timestamptz AS since, public.ledger_new_plan() AS terms
            UNION ALL
            SELECT o.terms_seq, o.created_at, o.outcome -> 'after' FROM public.credit_operations o
            WHERE o.scope = 'plans' AND o.terms_seq IS NOT NULL AND o.outcome -> 'after' ->> 'plan' = p_plan
        ) n
    ) s
    WHERE s.since <= p_at + interval '1 minute' AND s.until >= p_at - interval '1 minute'
$$;

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
            u.plan, u.time_zone, u.daily_granted_on, u.seq, u.head_hash, u.due_at, u.holds_due_at, u.created_at, u.warned,
            u.terms_hash
        INTO a
        FROM public.user_billing u INNER JOIN public.credit_plans p ON u.plan = p.plan
        WHERE u.user_id = p_user_id FOR NO KEY UPDATE OF u;
        EXIT WHEN FOUND;
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN a;
END
$$;

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
        PERFORM public.ledger_remember_terms(p_user_id, 'opening:terms', 'open', sha256(''),
            jsonb_build_object('after', public.ledger_terms_json(a)), a.created_at, 'system', NULL, 0);
    END IF;
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_set_terms(
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
    RETURN public.ledger_remember_terms(p_user_id, p_key, 'set-terms', v_request, jsonb_build_object(
        'before', public.ledger_terms_json(v_before), 'after', public.ledger_terms_json(v_after)
    ), v_now, p_actor, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)), a.seq);
EXCEPTION
    WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION 'a policy is hard, soft or off; limits are of 0 to 10^12 credits' USING ERRCODE = 'TW007';
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_set_time_zone(
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
    PERFORM public.ledger_remember_terms(p_user_id, 'time-zone:' || gen_random_uuid(), 'set-time-zone',
        sha256(convert_to(p_time_zone, 'UTF8')), v_outcome, v_now, p_actor, NULL, a.seq);
    RETURN v_outcome;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_set_plan(
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
        weight = coalesce((p_terms ->> 'weight')::integer, p.weight),
        max_in_flight = CASE WHEN p_terms ? 'max_in_flight'
            THEN (p_terms ->> 'max_in_flight')::integer ELSE p.max_in_flight END
    WHERE p.plan = p_plan RETURNING * INTO v_after;
    RETURN public.ledger_remember_terms('plans', p_key, 'set-plan', v_request, jsonb_build_object(
        'before', CASE WHEN v_before.plan IS NOT NULL THEN to_jsonb(v_before) - 'terms_hash' END,
        'after', to_jsonb(v_after) - 'terms_hash'
    ), coalesce(p_now, clock_timestamp()), p_actor, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
EXCEPTION
    WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION 'a plan has 1 to 64 characters, whole credits in range, a weight of 1 to 1000, 1 to 10000 in flight'
            USING ERRCODE = 'TW007';
END
$$;

-- What is to be written down before somebody's credits are looked at: what ended, debts, and the day's credits. A reserve does
-- the same in its own body: each job would pay for the call.
CREATE FUNCTION public.ledger_bring_up_to_date(a public.user_billing, p_now timestamptz) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    v_daily bigint;
BEGIN
    IF a.due_at <= p_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, gen_random_uuid(), p_now);
    END IF;
    v_daily := public.ledger_daily_due(a, p_now);
    IF v_daily > 0 THEN
        a := public.ledger_grant_daily(a, v_daily, gen_random_uuid(), p_now);
    END IF;
    RETURN a;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_adjust(
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
        a := public.ledger_bring_up_to_date(a, v_now);
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
        a := public.ledger_bring_up_to_date(a, v_now);
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
        'outcome', 'held', 'hold_id', v_hold_id, 'txn_id', v_txn_id, 'expires_at', public.ledger_moment(p_expires_at),
        'decision', v_decision, 'balance', public.ledger_balance_json(a, greatest(v_available - p_amount, 0))
    ), v_now, p_user_id);
END
$$;

SELECT public.access_to_functions();
