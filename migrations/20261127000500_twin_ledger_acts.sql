-- What people did to somebody's account, to a plan or to the prices is history, too: whatever credit_operations holds but what
-- work does (reserve, capture, release, which entries tell of) is a chain in each scope, like that of entries. Each of these
-- acts seals the one before it and says after which entry of the account it came. So `twin verify` can tell which limit, plan
-- and day were in force at any entry, and an act that was changed, invented or forgotten is named.
--
-- A reserve answers when its hold ends. And whoever takes credits of somebody, for a late result or by an adjustment, first
-- gives the day's, as a reserve does: the balance shows them.
-- squawk-ignore-file require-concurrent-index-creation

ALTER TABLE public.credit_operations
    ADD COLUMN act_seq bigint,
    ADD COLUMN after_seq bigint,
    ADD COLUMN act_hash bytea;
CREATE UNIQUE INDEX credit_operations_chain ON public.credit_operations (scope, act_seq) WHERE act_seq IS NOT NULL;

-- Where the chain of each scope stands.
CREATE TABLE public.credit_acts (
    scope text PRIMARY KEY,
    act_seq bigint NOT NULL CHECK (act_seq > 0),
    act_hash bytea NOT NULL CHECK (length(act_hash) = 32)
);
SELECT public.access_to_table('public.credit_acts', 'server only', 'How far the audit log has come.');

CREATE OR REPLACE FUNCTION public.ledger_check_operation(o public.credit_operations) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN length(o.key) BETWEEN 1 AND 255 AND length(o.request_hash) = 32
        AND (o.act_seq IS NULL) = (o.kind IN ('reserve', 'capture', 'release'))
        AND (o.act_seq IS NULL) = (o.act_hash IS NULL);
END
$$;

-- The hash of an act: of the one before it in its scope, and of itself as a JSON array.
CREATE FUNCTION public.ledger_act_hash(p_previous bytea, o public.credit_operations) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(p_previous || convert_to(jsonb_build_array(o.scope, o.act_seq, o.after_seq, o.key, o.kind,
        encode(o.request_hash, 'hex'), o.outcome, extract(epoch FROM o.created_at), o.actor, o.detail)::text, 'UTF8'))
$$;

-- Remember what was answered to a key. Whoever calls has locked the account, the plans or the prices.
CREATE OR REPLACE FUNCTION public.ledger_remember(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz,
    p_actor text DEFAULT NULL, p_detail jsonb DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    o public.credit_operations;
    v_last record;
BEGIN
    IF p_kind IN ('reserve', 'capture', 'release') THEN
        INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail)
        VALUES (p_scope, p_key, p_kind, p_request_hash, p_outcome, p_now, p_actor, p_detail);
        RETURN p_outcome || '{"replayed": false}';
    END IF;
    SELECT c.act_seq, c.act_hash INTO v_last FROM public.credit_acts c WHERE c.scope = p_scope FOR UPDATE;
    o.scope := p_scope;
    o.key := p_key;
    o.kind := p_kind;
    o.request_hash := p_request_hash;
    o.outcome := p_outcome;
    o.created_at := p_now;
    o.actor := p_actor;
    o.detail := p_detail;
    o.act_seq := coalesce(v_last.act_seq, 0) + 1;
    -- None for plans and prices.
    o.after_seq := (SELECT u.seq FROM public.user_billing u WHERE u.user_id = p_scope);
    o.act_hash := public.ledger_act_hash(
        coalesce(v_last.act_hash, '\x0000000000000000000000000000000000000000000000000000000000000000'), o);
    INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail, act_seq,
        after_seq, act_hash)
    VALUES (o.scope, o.key, o.kind, o.request_hash, o.outcome, o.created_at, o.actor, o.detail, o.act_seq, o.after_seq,
        o.act_hash);
    INSERT INTO public.credit_acts AS c (scope, act_seq, act_hash) VALUES (o.scope, o.act_seq, o.act_hash)
    ON CONFLICT (scope) DO UPDATE SET act_seq = excluded.act_seq, act_hash = excluded.act_hash;
    RETURN p_outcome || '{"replayed": false}';
END
$$;

-- What was remembered before, in the order of its time; terms before what moved credits at the same moment.
ALTER TABLE public.credit_operations DISABLE TRIGGER credit_operations_append_only;
DO $$
DECLARE
    o public.credit_operations;
    v_scope text;
    v_hash bytea;
BEGIN
    FOR o IN
        SELECT * FROM public.credit_operations WHERE kind NOT IN ('reserve', 'capture', 'release')
        ORDER BY scope, kind <> 'open', created_at, kind NOT LIKE 'set-%', key
    LOOP
        IF o.scope IS DISTINCT FROM v_scope THEN
            v_scope := o.scope;
            v_hash := '\x0000000000000000000000000000000000000000000000000000000000000000';
            o.act_seq := 0;
        ELSE
            o.act_seq := (SELECT c.act_seq FROM public.credit_acts c WHERE c.scope = v_scope);
        END IF;
        o.act_seq := o.act_seq + 1;
        IF o.kind NOT IN ('set-plan', 'price') THEN
            o.after_seq := CASE WHEN o.kind = 'open' THEN 0
                ELSE public.ledger_seq_at(o.scope, o.created_at - interval '1 microsecond') END;
        END IF;
        v_hash := public.ledger_act_hash(v_hash, o);
        UPDATE public.credit_operations u SET act_seq = o.act_seq, after_seq = o.after_seq, act_hash = v_hash
        WHERE u.scope = o.scope AND u.key = o.key;
        INSERT INTO public.credit_acts (scope, act_seq, act_hash) VALUES (o.scope, o.act_seq, v_hash)
        ON CONFLICT (scope) DO UPDATE SET act_seq = excluded.act_seq, act_hash = excluded.act_hash;
    END LOOP;
END
$$;
ALTER TABLE public.credit_operations ENABLE TRIGGER credit_operations_append_only;

-- Whether daily credits were of the date it was at a place, until its end there. Rules of time zones are corrected after the
-- fact, by hours; a place may lose its name. For verification: nothing that it is asked about is believed to be well-formed.
CREATE FUNCTION public.ledger_day_fits(p_date text, p_ends_at text, p_at timestamptz, p_time_zone text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_corrected constant interval := '3 hours';
    v_at timestamptz;
    v_date date;
    v_ends_at timestamptz;
BEGIN
    FOREACH v_at IN ARRAY ARRAY[p_at, p_at - v_corrected, p_at + v_corrected] LOOP
        v_date := (v_at AT TIME ZONE p_time_zone)::date;
        v_ends_at := public.ledger_midnight_after(v_date, p_time_zone, v_at);
        IF p_date = v_date::text AND p_ends_at COLLATE "C" BETWEEN public.ledger_moment(v_ends_at - v_corrected)
            AND public.ledger_moment(v_ends_at + v_corrected) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
EXCEPTION
    WHEN invalid_parameter_value THEN
        RETURN p_date COLLATE "C" BETWEEN ((p_at AT TIME ZONE 'UTC') - interval '12 hours')::date::text
                AND ((p_at AT TIME ZONE 'UTC') + interval '14 hours')::date::text
            AND p_ends_at COLLATE "C" BETWEEN public.ledger_moment(p_at) AND public.ledger_moment(p_at + interval '2 days');
END
$$;

-- What a plan is before anything is said about it.
CREATE FUNCTION public.ledger_new_plan(p_plan text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('plan', p_plan, 'daily_credits', 0, 'policy', 'soft', 'overdraft_limit', 0,
        'low_balance_threshold', 10, 'weight', 1, 'max_in_flight', NULL)
$$;

-- What was said about each plan and when, give or take a minute: whoever asked may have seen the plan before a change was
-- committed, and clocks step back. Of a plan of which nothing was said then there is no row.
CREATE FUNCTION public.ledger_plans_over_time() RETURNS TABLE (plan text, terms jsonb, since timestamptz, until timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT s.plan, s.terms, s.since - interval '1 minute',
        lead(s.since, 1, 'infinity') OVER (PARTITION BY s.plan ORDER BY s.act_seq) + interval '1 minute'
    FROM (
        SELECT o.outcome -> 'after' ->> 'plan' AS plan, o.outcome -> 'after' AS terms, o.created_at AS since, o.act_seq
        FROM public.credit_operations o
        WHERE o.scope = 'plans' AND o.act_seq IS NOT NULL AND o.kind = 'set-plan'
        UNION ALL
        SELECT p.plan, public.ledger_new_plan(p.plan), '-infinity', 0 FROM public.credit_plans p
    ) s
$$;

CREATE OR REPLACE FUNCTION public.ledger_open_account(
    p_user_id text, p_policy public.credit_policy DEFAULT NULL, p_overdraft_limit bigint DEFAULT NULL,
    p_low_balance_threshold bigint DEFAULT NULL, p_plan text DEFAULT 'free', p_time_zone text DEFAULT 'UTC'
) RETURNS boolean LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing;
BEGIN
    PERFORM public.ledger_check_time_zone(p_time_zone);
    -- First in line, then the row, as whoever locks the account: who opens it and reserves in one transaction stops nobody.
    PERFORM pg_advisory_xact_lock(public.ledger_line(p_user_id));
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
