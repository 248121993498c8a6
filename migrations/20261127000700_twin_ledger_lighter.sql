-- What every job pays for, lighter; what is refused and what is answered stays as it was.
--
-- Postgres prepares each expression of PL/pgSQL anew in every transaction, node by node, so the rules of rows, which are asked
-- at each write, say with fewer nodes what they said: the least of several amounts is compared once, and what is true of open
-- holds alone is asked of open holds alone. Acts are remembered by a function of their own. A reserve answers with its hold's
-- end in seconds since 1970, as text: ledger_moment cannot be inlined. What people did in a scope is found by its chain.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

CREATE OR REPLACE FUNCTION public.ledger_check_account(a public.user_billing) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN least(a.held, a.posted - a.held, a.overdraft_used, a.overdraft_held, a.overdraft_limit,
            a.low_balance_threshold, a.seq) >= 0
        AND a.warned BETWEEN 0 AND 2
        AND length(a.user_id) BETWEEN 1 AND 255
        AND a.time_zone <> ''
        AND length(a.head_hash) = 32;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_check_bucket(b public.credit_buckets) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN least(b.granted - 1, b.remaining, b.held, b.granted - b.remaining - b.held) >= 0
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
    IF least(h.quoted, h.captured, h.released, h.late_captured, h.round - 1) < 0 OR jsonb_typeof(h.price) <> 'object' THEN
        RETURN false;
    ELSIF h.state = 'open' THEN
        RETURN h.captured + h.released + h.late_captured = 0 AND h.settled_at IS NULL AND NOT h.final AND NOT h.late
            -- No entry when nothing was asked for: then they end before they begin.
            AND coalesce(h.first_seq >= 1 AND (h.last_seq >= h.first_seq) = (h.quoted > 0), false);
    END IF;
    RETURN h.captured + h.released = h.quoted AND h.settled_at IS NOT NULL
        AND (h.state = 'captured' OR h.captured = 0)
        AND (h.state = 'expired' OR h.final)
        AND CASE WHEN h.late
            THEN h.state = 'expired' AND h.final AND h.late_captured <= h.quoted
            ELSE h.late_captured = 0
        END;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_check_entry(e public.credit_entries) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN least(e.seq, e.amount) >= 1
        AND least(e.posted_after, e.held_after, e.overdraft_used_after, e.overdraft_held_after) >= 0
        AND e.from_leg <> e.to_leg
        -- A bucket is named exactly when its credits move.
        AND (e.bucket_id IS NOT NULL) = (e.from_leg IN ('available', 'held') OR e.to_leg IN ('available', 'held'))
        AND jsonb_typeof(e.detail) = 'object' AND length(e.hash) = 32;
END
$$;

-- Remember what people did, as the newest of its scope's chain.
CREATE FUNCTION public.ledger_remember_act(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz, p_actor text,
    p_detail jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o public.credit_operations;
    v_last record;
BEGIN
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
END
$$;

-- Remember what was answered to a key. Whoever calls has locked the account, the plans or the prices.
CREATE OR REPLACE FUNCTION public.ledger_remember(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz,
    p_actor text DEFAULT NULL, p_detail jsonb DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF p_kind IN ('reserve', 'capture', 'release') THEN
        INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail)
        VALUES (p_scope, p_key, p_kind, p_request_hash, p_outcome, p_now, p_actor, p_detail);
    ELSE
        PERFORM public.ledger_remember_act(p_scope, p_key, p_kind, p_request_hash, p_outcome, p_now, p_actor, p_detail);
    END IF;
    RETURN p_outcome || '{"replayed": false}';
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
        'outcome', 'held', 'hold_id', v_hold_id, 'txn_id', v_txn_id,
        'expires_at', extract(epoch FROM p_expires_at)::text, 'decision', v_decision,
        'balance', public.ledger_balance_json(a, greatest(v_available - p_amount, 0))
    ), v_now, p_user_id);
END
$$;

-- Each index of this table is opened and asked at every reserve and capture, even where it has no place for them.
DROP INDEX public.credit_operations_acts_of_scope;
DROP INDEX public.credit_operations_acts;
CREATE INDEX credit_operations_acts ON public.credit_operations (created_at) WHERE act_seq IS NOT NULL;

-- As before, and one forged moment keeps nobody from being verified.
CREATE OR REPLACE FUNCTION public.ledger_plans_over_time()
RETURNS TABLE (plan text, terms jsonb, since timestamptz, until timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT s.plan, s.terms, s.since - interval '1 minute',
        lead(s.since, 1, 'infinity') OVER (PARTITION BY s.plan ORDER BY s.act_seq) + interval '1 minute'
    FROM (
        SELECT o.outcome -> 'after' ->> 'plan' AS plan, o.outcome -> 'after' AS terms,
            least(greatest(o.created_at, '1000-01-01'), '9000-01-01') AS since, o.act_seq
        FROM public.credit_operations o
        WHERE o.scope = 'plans' AND o.act_seq IS NOT NULL AND o.kind = 'set-plan'
        UNION ALL
        SELECT p.plan, public.ledger_new_plan(p.plan), '-infinity', 0 FROM public.credit_plans p
    ) s
$$;

SELECT public.access_to_functions();
