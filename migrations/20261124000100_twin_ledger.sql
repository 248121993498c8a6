-- The money: accounts, buckets, holds, the append-only entries behind them, and the only functions that write them.
--
-- Every credit moves in a row of credit_entries that leaves one leg and enters another, so the legs of a transaction
-- sum to zero by construction. Everything else (balances, buckets, holds) is kept beside it for speed and can be
-- derived again from the entries.
--
-- Rule of every operation: lock the account row, then read in a *second* statement. Under READ COMMITTED that second
-- statement sees what the previous owner of the lock committed; a lock and a read in one statement do not.
--
-- Errors a caller may meet (match the SQLSTATE, never the text):
--   TW001  the key was used before with another request
--   TW002  no such hold
--   TW003  the hold has been settled already
--   TW004  more than the quoted amount was to be captured
--   TW005  the generation has a hold already, under another key
--   TW006  this source_ref was granted before on other terms
--   TW007  an argument is out of range
--   TW008  the table is append-only
--   55P03  the account stayed locked for longer than the lock_timeout: nothing happened, try again

CREATE TYPE public.credit_policy AS ENUM ('hard', 'soft', 'off');

-- In spending order among equals: promotional credits go before bought ones.
CREATE TYPE public.credit_bucket_kind AS ENUM ('daily', 'promo', 'adjust', 'plan', 'paid');

CREATE TYPE public.credit_hold_state AS ENUM ('open', 'captured', 'released', 'expired');

-- The first four are the person's; the others are system legs, which have no balance row to contend for.
-- The sum of the overdraft leg is minus (overdraft_used + overdraft_held).
CREATE TYPE public.credit_leg AS ENUM (
    'available', 'held', 'overdraft', 'overdraft_held', 'issued', 'revenue', 'expired', 'reversed'
);

-- lapse: a hold ran out and its credits came back. expire: credits themselves ran out.
CREATE TYPE public.credit_entry_kind AS ENUM (
    'grant', 'reserve', 'capture', 'release', 'lapse', 'expire', 'repay', 'adjust', 'reverse'
);

CREATE TABLE public.user_billing (
    user_id text PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 255),
    -- posted = remaining + held of every bucket; held = the part of it that is promised to open holds.
    posted bigint NOT NULL DEFAULT 0 CHECK (posted >= 0),
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    -- Debt is its own column, never a negative balance: used is captured, held is promised to open holds.
    overdraft_used bigint NOT NULL DEFAULT 0 CHECK (overdraft_used >= 0),
    overdraft_held bigint NOT NULL DEFAULT 0 CHECK (overdraft_held >= 0),
    overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit >= 0),
    low_balance_threshold bigint NOT NULL DEFAULT 10 CHECK (low_balance_threshold >= 0),
    policy public.credit_policy NOT NULL DEFAULT 'soft',
    plan text NOT NULL DEFAULT 'free' CHECK (plan <> ''),
    time_zone text NOT NULL DEFAULT 'UTC' CHECK (time_zone <> ''),
    daily_granted_on date,
    -- The last entry and its hash: the chain of an account hangs on the row that is locked anyway.
    seq bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    head_hash bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000'
        CHECK (length(head_hash) = 32),
    -- No bucket expires or becomes effective before due_at; no open hold expires before holds_due_at. Either may be
    -- early (then a look finds nothing), never late. NULL: nothing will.
    due_at timestamptz,
    holds_due_at timestamptz,
    vfinish bigint NOT NULL DEFAULT 0 CHECK (vfinish >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (held <= posted)
) WITH (fillfactor = 70);

CREATE INDEX user_billing_due ON public.user_billing (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX user_billing_holds_due ON public.user_billing (holds_due_at) WHERE holds_due_at IS NOT NULL;

CREATE TABLE public.credit_buckets (
    bucket_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL REFERENCES public.user_billing (user_id),
    kind public.credit_bucket_kind NOT NULL,
    -- Lower is spent first.
    priority integer NOT NULL DEFAULT 100,
    granted bigint NOT NULL CHECK (granted > 0),
    remaining bigint NOT NULL CHECK (remaining >= 0),
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    source_ref text NOT NULL CHECK (length(source_ref) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL,
    -- Indexed instead of remaining, which changes all the time: updates stay HOT until the bucket is used up.
    live boolean NOT NULL GENERATED ALWAYS AS (remaining + held > 0) STORED,
    CHECK (remaining + held <= granted),
    CHECK (expires_at > effective_at),
    UNIQUE (user_id, kind, source_ref)
) WITH (fillfactor = 70);

CREATE INDEX credit_buckets_live ON public.credit_buckets (user_id) WHERE live;

-- One promise per generation. `final`: nothing may touch the hold again; an expired hold that is not final may still
-- be captured late, once, from whatever the person has then.
CREATE TABLE public.credit_holds (
    hold_id uuid PRIMARY KEY,
    user_id text NOT NULL REFERENCES public.user_billing (user_id),
    generation_id uuid NOT NULL UNIQUE,
    state public.credit_hold_state NOT NULL DEFAULT 'open',
    quoted bigint NOT NULL CHECK (quoted >= 0),
    captured bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    released bigint NOT NULL DEFAULT 0 CHECK (released >= 0),
    late boolean NOT NULL DEFAULT false,
    late_captured bigint NOT NULL DEFAULT 0 CHECK (late_captured >= 0),
    final boolean NOT NULL DEFAULT false,
    price jsonb NOT NULL CHECK (jsonb_typeof(price) = 'object'),
    reason text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    settled_at timestamptz,
    CHECK (CASE state
        WHEN 'open' THEN captured = 0 AND released = 0 AND settled_at IS NULL AND NOT final
        WHEN 'captured' THEN captured + released = quoted AND settled_at IS NOT NULL AND final
        WHEN 'released' THEN captured = 0 AND released = quoted AND settled_at IS NOT NULL AND final
        WHEN 'expired' THEN captured = 0 AND released = quoted AND settled_at IS NOT NULL
    END),
    CHECK (CASE WHEN late THEN state = 'expired' AND final AND late_captured <= quoted ELSE late_captured = 0 END)
) WITH (fillfactor = 80);

-- Not partial on the state, so that settling a hold is a HOT update; user_billing.holds_due_at bounds the range read.
CREATE INDEX credit_holds_expiry ON public.credit_holds (user_id, expires_at);

-- Exactly what gave how much: a bucket, or the overdraft when bucket_id is NULL. Unwound from the highest ordinal.
CREATE TABLE public.credit_hold_parts (
    hold_id uuid NOT NULL REFERENCES public.credit_holds (hold_id),
    ordinal integer NOT NULL CHECK (ordinal >= 1),
    bucket_id bigint REFERENCES public.credit_buckets (bucket_id),
    amount bigint NOT NULL CHECK (amount > 0),
    captured bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    released bigint NOT NULL DEFAULT 0 CHECK (released >= 0),
    PRIMARY KEY (hold_id, ordinal),
    CHECK (captured + released IN (0, amount))
) WITH (fillfactor = 80);

CREATE TABLE public.credit_entries (
    user_id text NOT NULL REFERENCES public.user_billing (user_id),
    seq bigint NOT NULL CHECK (seq >= 1),
    txn_id uuid NOT NULL,
    kind public.credit_entry_kind NOT NULL,
    from_leg public.credit_leg NOT NULL,
    to_leg public.credit_leg NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    bucket_id bigint,
    hold_id uuid,
    actor text NOT NULL,
    posted_after bigint NOT NULL CHECK (posted_after >= 0),
    held_after bigint NOT NULL CHECK (held_after >= 0),
    overdraft_used_after bigint NOT NULL CHECK (overdraft_used_after >= 0),
    overdraft_held_after bigint NOT NULL CHECK (overdraft_held_after >= 0),
    at timestamptz NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (user_id, seq),
    CHECK (from_leg <> to_leg),
    -- A bucket is named exactly when its credits move.
    CHECK ((bucket_id IS NOT NULL) = (from_leg IN ('available', 'held') OR to_leg IN ('available', 'held')))
);

CREATE TABLE public.credit_operations (
    scope text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    kind text NOT NULL,
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    outcome jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE public.price_versions (
    version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('text', 'image', 'modify', 'video')),
    -- NULL: every endpoint of the type.
    endpoint text CHECK (endpoint <> ''),
    unit_credits bigint NOT NULL CHECK (unit_credits BETWEEN 0 AND 1000000000),
    -- Tiers: [{"min_batch": 4, "multiplier_permille": 900}]; the tier with the greatest min_batch not above the batch
    -- counts; none means 1000.
    batch_multipliers jsonb NOT NULL DEFAULT '[]' CHECK (
        jsonb_typeof(batch_multipliers) = 'array'
        AND jsonb_array_length(batch_multipliers) = jsonb_array_length(jsonb_path_query_array(
            batch_multipliers,
            '$[*] ? (@.min_batch.type() == "number" && @.min_batch >= 1 && @.min_batch.floor() == @.min_batch
                && @.multiplier_permille.type() == "number" && @.multiplier_permille >= 0
                && @.multiplier_permille <= 1000000
                && @.multiplier_permille.floor() == @.multiplier_permille)'
        ))
    ),
    effective_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    note text
);

CREATE INDEX price_versions_lookup ON public.price_versions (type, effective_at DESC, version DESC);

INSERT INTO public.price_versions (type, unit_credits, effective_at, created_by, note) VALUES
    ('text', 1, '2020-01-01T00:00:00Z', 'migration', 'first price list'),
    ('image', 5, '2020-01-01T00:00:00Z', 'migration', 'first price list'),
    ('modify', 3, '2020-01-01T00:00:00Z', 'migration', 'first price list'),
    ('video', 10, '2020-01-01T00:00:00Z', 'migration', 'first price list');

-- ---------------------------------------------------------------------------------------------- append-only

CREATE FUNCTION public.ledger_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'TW008', HINT = 'Correct it with a new row.';
END
$$;

CREATE TRIGGER credit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.credit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER price_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER credit_operations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.credit_operations
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();

-- ---------------------------------------------------------------------------------------------- building blocks
-- Called by the operations below, with the account row locked.

CREATE TYPE public.ledger_movement AS (
    kind public.credit_entry_kind,
    from_leg public.credit_leg,
    to_leg public.credit_leg,
    amount bigint,
    bucket_id bigint
);

-- One link of an account's chain. A JSON array is the canonical text: no two rows share one, whatever their strings.
CREATE FUNCTION public.ledger_hash(
    p_previous bytea, p_user_id text, p_seq bigint, p_txn_id uuid, p_move public.ledger_movement, p_hold_id uuid,
    p_actor text, p_posted bigint, p_held bigint, p_overdraft_used bigint, p_overdraft_held bigint, p_at timestamptz
) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(p_previous || convert_to(jsonb_build_array(
        p_user_id, p_seq, p_txn_id, p_move.kind, p_move.from_leg, p_move.to_leg, p_move.amount, p_move.bucket_id,
        p_hold_id, p_actor, p_posted, p_held, p_overdraft_used, p_overdraft_held,
        (extract(epoch FROM p_at) * 1000000)::bigint
    )::text, 'UTF8'))
$$;

-- Lock the account, opening it when it is new. Whoever reads afterwards does so in a statement of their own.
CREATE FUNCTION public.ledger_lock(p_user_id text) RETURNS public.user_billing
LANGUAGE plpgsql AS $$
DECLARE
    a public.user_billing;
BEGIN
    SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.user_billing (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
        SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id FOR NO KEY UPDATE;
    END IF;
    RETURN a;
END
$$;

-- What this key answered before, marked as a replay; NULL when the key is new.
CREATE FUNCTION public.ledger_replay(p_scope text, p_key text, p_request_hash bytea) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    o public.credit_operations;
BEGIN
    IF p_key IS NULL OR length(p_key) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'a key has 1 to 255 characters' USING ERRCODE = 'TW007';
    END IF;
    SELECT * INTO o FROM public.credit_operations WHERE scope = p_scope AND key = p_key;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF o.request_hash <> p_request_hash THEN
        RAISE EXCEPTION 'key % was used for another request', p_key USING ERRCODE = 'TW001';
    END IF;
    RETURN o.outcome || '{"replayed": true}';
END
$$;

CREATE FUNCTION public.ledger_remember(
    p_scope text, p_key text, p_kind text, p_request_hash bytea, p_outcome jsonb, p_now timestamptz
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at)
    VALUES (p_scope, p_key, p_kind, p_request_hash, p_outcome, p_now);
    RETURN p_outcome || '{"replayed": false}';
END
$$;

-- What can be spent at p_now, and the movements that would take p_amount of it (or all there is), in spending order:
-- priority, soonest expiry (never last), promotional before paid, effective date, id.
CREATE FUNCTION public.ledger_draw(
    p_user_id text, p_amount bigint, p_kind public.credit_entry_kind, p_to_leg public.credit_leg,
    p_now timestamptz, OUT available bigint, OUT moves public.ledger_movement[]
) LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(s.remaining), 0)::bigint,
        coalesce(array_agg(
            ROW(p_kind, 'available', p_to_leg, least(s.remaining, p_amount - s.before), s.bucket_id)::public.ledger_movement
            ORDER BY s.before, s.bucket_id
        ) FILTER (WHERE s.before < p_amount), '{}')
    FROM (
        SELECT b.bucket_id, b.remaining, (sum(b.remaining) OVER (
            ORDER BY b.priority, b.expires_at NULLS LAST, b.kind, b.effective_at, b.bucket_id
        ) - b.remaining)::bigint AS before
        FROM public.credit_buckets b
        WHERE b.user_id = p_user_id AND b.live AND b.remaining > 0
            AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)
    ) s
$$;

-- Write movements: the entries with their running balances and hashes, the buckets they touch, the account. Returns
-- the account as it now is. The account is written even when there are no movements (its due times may have changed).
CREATE FUNCTION public.ledger_post(
    a public.user_billing, p_moves public.ledger_movement[], p_txn_id uuid, p_hold_id uuid, p_actor text,
    p_now timestamptz
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
            a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now);
        v_entries := v_entries || ROW(a.user_id, a.seq, p_txn_id, m.kind, m.from_leg, m.to_leg, m.amount, m.bucket_id,
            p_hold_id, p_actor, a.posted, a.held, a.overdraft_used, a.overdraft_held, p_now,
            a.head_hash)::public.credit_entries;
    END LOOP;
    IF cardinality(p_moves) = 1 AND m.from_leg <> 'issued' AND m.bucket_id IS NOT NULL THEN
        UPDATE public.credit_buckets b
        SET remaining = b.remaining + m.amount * ((m.to_leg = 'available')::int - (m.from_leg = 'available')::int),
            held = b.held + m.amount * ((m.to_leg = 'held')::int - (m.from_leg = 'held')::int)
        WHERE b.bucket_id = m.bucket_id;
    ELSIF cardinality(p_moves) > 1 THEN
        -- A bucket is inserted with its first credits in it, so the movement from issued is not applied again.
        UPDATE public.credit_buckets b SET remaining = b.remaining + d.remaining, held = b.held + d.held
        FROM (
            SELECT u.bucket_id,
                sum(u.amount * ((u.to_leg = 'available')::int - (u.from_leg = 'available')::int))::bigint AS remaining,
                sum(u.amount * ((u.to_leg = 'held')::int - (u.from_leg = 'held')::int))::bigint AS held
            FROM unnest(p_moves) u WHERE u.bucket_id IS NOT NULL AND u.from_leg <> 'issued' GROUP BY u.bucket_id
        ) d
        WHERE b.bucket_id = d.bucket_id;
    END IF;
    INSERT INTO public.credit_entries SELECT * FROM unnest(v_entries);
    UPDATE public.user_billing u
    SET posted = a.posted, held = a.held, overdraft_used = a.overdraft_used, overdraft_held = a.overdraft_held,
        seq = a.seq, head_hash = a.head_hash, due_at = a.due_at, holds_due_at = a.holds_due_at
    WHERE u.user_id = a.user_id;
    RETURN a;
END
$$;

-- What the clock and a debt ask for: write down expired buckets, pay debt from what can be spent, look up the next due
-- time. Called when either may have something to do; a held credit is not in `remaining` and so cannot expire.
CREATE FUNCTION public.ledger_tidy(a public.user_billing, p_txn_id uuid, p_now timestamptz)
RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_moves public.ledger_movement[] := '{}';
    v_repay public.ledger_movement[] := '{}';
BEGIN
    IF a.due_at <= p_now THEN
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
    RETURN public.ledger_post(a, v_moves || v_repay, p_txn_id, NULL, 'system', p_now);
END
$$;

CREATE FUNCTION public.ledger_balance_json(a public.user_billing, p_available bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('available', p_available, 'held', a.held + a.overdraft_held, 'posted', a.posted,
        'overdraft_used', a.overdraft_used, 'overdraft_limit', a.overdraft_limit)
$$;

-- The verdict on p_amount for an account that has p_available to spend.
-- shortfall: credits that would have to arrive first (a debt is paid from them first). remaining: available - amount;
-- below zero the overdraft would be drawn, or credits are missing.
CREATE FUNCTION public.ledger_judge(a public.user_billing, p_available bigint, p_amount bigint) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_missing bigint := greatest(p_amount - p_available, 0);
    v_verdict text := 'allow';
    v_reasons text[] := '{}';
    v_shortfall bigint := 0;
BEGIN
    IF v_missing > 0 AND a.policy = 'hard' THEN
        v_verdict := 'block';
        v_reasons := '{insufficient-credits}';
        v_shortfall := v_missing + a.overdraft_used;
    ELSIF v_missing > 0 AND a.policy = 'soft'
        AND v_missing > a.overdraft_limit - a.overdraft_used - a.overdraft_held THEN
        v_verdict := 'block';
        v_reasons := CASE WHEN a.overdraft_limit > 0 THEN '{overdraft-limit}' ELSE '{insufficient-credits}' END;
        v_shortfall := v_missing - (a.overdraft_limit - a.overdraft_used - a.overdraft_held);
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
        'remaining', p_available - p_amount, 'balance', public.ledger_balance_json(a, p_available));
END
$$;

-- The account as the clock says it is, without writing: expired credits gone, debt paid from what became effective.
-- Equal to what ledger_tidy would leave behind, so that a quote and a submit judge the same account.
CREATE FUNCTION public.ledger_peek(
    p_user_id text, p_now timestamptz, OUT account public.user_billing, OUT available bigint
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_expired bigint;
    v_repaid bigint;
BEGIN
    SELECT * INTO account FROM public.user_billing WHERE user_id = p_user_id;
    IF NOT FOUND THEN
        -- As a fresh account would be: nothing to spend and no overdraft.
        account.user_id := p_user_id;
        account.posted := 0;
        account.held := 0;
        account.overdraft_used := 0;
        account.overdraft_held := 0;
        account.overdraft_limit := 0;
        account.low_balance_threshold := 10;
        account.policy := 'soft';
    END IF;
    SELECT coalesce(sum(b.remaining) FILTER (
            WHERE b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)), 0),
        coalesce(sum(b.remaining) FILTER (WHERE b.expires_at <= p_now), 0)
    INTO available, v_expired
    FROM public.credit_buckets b WHERE b.user_id = p_user_id AND b.live;
    v_repaid := least(available, account.overdraft_used);
    available := available - v_repaid;
    account.overdraft_used := account.overdraft_used - v_repaid;
    account.posted := account.posted - v_expired - v_repaid;
END
$$;

CREATE FUNCTION public.ledger_spendable(p_user_id text, p_now timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(b.remaining), 0)::bigint FROM public.credit_buckets b
    WHERE b.user_id = p_user_id AND b.live
        AND b.effective_at <= p_now AND (b.expires_at IS NULL OR b.expires_at > p_now)
$$;

-- End an open hold: capture the first p_amount of it in the order it was taken, give the rest back in reverse, then do
-- what the returned credits ask for (expire with their bucket, pay debt) under the same transaction id.
CREATE FUNCTION public.ledger_settle(
    a public.user_billing, p_hold_id uuid, p_amount bigint, p_state public.credit_hold_state, p_reason text,
    p_now timestamptz
) RETURNS public.user_billing LANGUAGE plpgsql AS $$
DECLARE
    v_txn_id uuid := gen_random_uuid();
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
            a.due_at := least(a.due_at, p.expires_at);
        END IF;
    END LOOP;
    v_moves := v_moves || v_returned;
    UPDATE public.credit_holds h
    SET state = p_state, captured = p_amount, released = h.quoted - p_amount, settled_at = p_now,
        reason = p_reason, final = p_state <> 'expired'
    WHERE h.hold_id = p_hold_id;
    IF cardinality(v_moves) > 0 THEN
        a := public.ledger_post(a, v_moves, v_txn_id, p_hold_id, 'system', p_now);
    END IF;
    IF a.due_at <= p_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, v_txn_id, p_now);
    END IF;
    RETURN a;
END
$$;

-- ---------------------------------------------------------------------------------------------- operations

-- Open an account on given terms. True when it is new; an account that exists is left as it is.
CREATE FUNCTION public.ledger_open_account(
    p_user_id text, p_policy public.credit_policy DEFAULT 'soft', p_overdraft_limit bigint DEFAULT 0,
    p_low_balance_threshold bigint DEFAULT 10, p_plan text DEFAULT 'free', p_time_zone text DEFAULT 'UTC'
) RETURNS boolean LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
BEGIN
    INSERT INTO public.user_billing
        (user_id, policy, overdraft_limit, low_balance_threshold, plan, time_zone)
    VALUES (p_user_id, p_policy, p_overdraft_limit, p_low_balance_threshold, p_plan, p_time_zone)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Give credits as a new bucket; debt is paid from it first. Once per (user, kind, source_ref), whatever the key.
CREATE FUNCTION public.ledger_grant(
    p_user_id text, p_key text, p_amount bigint, p_kind public.credit_bucket_kind, p_source_ref text, p_actor text,
    p_priority integer DEFAULT NULL, p_effective_at timestamptz DEFAULT NULL, p_expires_at timestamptz DEFAULT NULL,
    p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    a public.user_billing := public.ledger_lock(p_user_id);
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_request bytea := sha256(convert_to(jsonb_build_array('grant', p_amount, p_kind, p_source_ref, p_priority,
        extract(epoch FROM p_effective_at), extract(epoch FROM p_expires_at))::text, 'UTF8'));
    v_outcome jsonb := public.ledger_replay(p_user_id, p_key, v_request);
    v_effective_at timestamptz := coalesce(p_effective_at, v_now);
    v_txn_id uuid := gen_random_uuid();
    b public.credit_buckets;
BEGIN
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_amount IS NULL OR p_amount NOT BETWEEN 1 AND 1000000000000
        OR p_expires_at <= greatest(v_now, v_effective_at) THEN
        RAISE EXCEPTION 'a grant is of 1 to 10^12 credits that have not expired' USING ERRCODE = 'TW007';
    END IF;
    SELECT * INTO b FROM public.credit_buckets
    WHERE user_id = p_user_id AND kind = p_kind AND source_ref = p_source_ref;
    IF FOUND THEN
        IF (b.granted, b.priority) <> (p_amount, coalesce(p_priority, 100))
            OR b.expires_at IS DISTINCT FROM p_expires_at
            OR b.effective_at <> coalesce(p_effective_at, b.effective_at) THEN
            RAISE EXCEPTION '% was granted before on other terms', p_source_ref USING ERRCODE = 'TW006';
        END IF;
        RETURN public.ledger_remember(p_user_id, p_key, 'grant', v_request, jsonb_build_object(
            'bucket_id', b.bucket_id, 'amount', b.granted,
            'balance', public.ledger_balance_json(a, public.ledger_spendable(p_user_id, v_now))
        ), v_now) || '{"replayed": true}';
    END IF;
    INSERT INTO public.credit_buckets
        (user_id, kind, priority, granted, remaining, effective_at, expires_at, source_ref, created_at)
    VALUES (p_user_id, p_kind, coalesce(p_priority, 100), p_amount, p_amount, v_effective_at, p_expires_at,
        p_source_ref, v_now)
    RETURNING * INTO b;
    a.due_at := least(a.due_at, CASE WHEN v_effective_at > v_now THEN v_effective_at ELSE p_expires_at END);
    a := public.ledger_post(a, ARRAY[ROW('grant', 'issued', 'available', p_amount, b.bucket_id)::public.ledger_movement],
        v_txn_id, NULL, p_actor, v_now);
    IF a.due_at <= v_now OR a.overdraft_used > 0 THEN
        a := public.ledger_tidy(a, v_txn_id, v_now);
    END IF;
    RETURN public.ledger_remember(p_user_id, p_key, 'grant', v_request, jsonb_build_object(
        'bucket_id', b.bucket_id, 'amount', p_amount,
        'balance', public.ledger_balance_json(a, public.ledger_spendable(p_user_id, v_now))
    ), v_now);
END
$$;

-- Promise credits to a generation, or say why not. The decision is ledger_judge's, as in a quote. A denial is an
-- outcome like any other: the same key gets it again. The deadline is not part of the request, so a retry that
-- computes a later one is still the same request.
CREATE FUNCTION public.ledger_reserve(
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
    IF a.due_at <= v_now THEN
        a := public.ledger_tidy(a, v_txn_id, v_now);
    END IF;
    SELECT d.available, d.moves INTO v_available, v_moves
    FROM public.ledger_draw(p_user_id, p_amount, 'reserve', 'held', v_now) d;
    v_decision := public.ledger_judge(a, v_available, p_amount);
    IF v_decision ->> 'verdict' = 'block' THEN
        RETURN public.ledger_remember(p_user_id, p_key, 'reserve', v_request, jsonb_build_object(
            'outcome', 'denied', 'hold_id', NULL, 'decision', v_decision,
            'balance', v_decision -> 'balance'
        ), v_now);
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
    a := public.ledger_post(a, v_moves, v_txn_id, v_hold_id, p_user_id, v_now);
    RETURN public.ledger_remember(p_user_id, p_key, 'reserve', v_request, jsonb_build_object(
        'outcome', 'held', 'hold_id', v_hold_id, 'decision', v_decision,
        'balance', public.ledger_balance_json(a, greatest(v_available - p_amount, 0))
    ), v_now);
END
$$;

-- Charge p_amount of a hold and give back the rest. After the hold has expired the charge is late: it comes from what
-- is available now, then from the overdraft, beyond its limit if need be, and is flagged.
CREATE FUNCTION public.ledger_capture(
    p_hold_id uuid, p_key text, p_amount bigint, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_user_id text := (SELECT h.user_id FROM public.credit_holds h WHERE h.hold_id = p_hold_id);
    v_request bytea := sha256(convert_to(jsonb_build_array('capture', p_hold_id, p_amount)::text, 'UTF8'));
    a public.user_billing;
    h public.credit_holds;
    v_now timestamptz;
    v_outcome jsonb;
    v_txn_id uuid;
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
        a := public.ledger_settle(a, p_hold_id, p_amount, 'captured', NULL, v_now);
    ELSE
        v_txn_id := gen_random_uuid();
        IF a.due_at <= v_now THEN
            a := public.ledger_tidy(a, v_txn_id, v_now);
        END IF;
        SELECT d.available, d.moves INTO v_available, v_moves
        FROM public.ledger_draw(v_user_id, p_amount, 'capture', 'revenue', v_now) d;
        IF p_amount > v_available THEN
            v_moves := v_moves || ROW('capture', 'overdraft', 'revenue', p_amount - v_available,
                NULL)::public.ledger_movement;
        END IF;
        a := public.ledger_post(a, v_moves, v_txn_id, p_hold_id, 'system', v_now);
        UPDATE public.credit_holds SET late = true, late_captured = p_amount, final = true WHERE hold_id = p_hold_id;
    END IF;
    RETURN public.ledger_remember(v_user_id, p_key, 'capture', v_request, jsonb_build_object(
        'captured', p_amount, 'released', h.quoted - p_amount, 'late', h.state = 'expired',
        'balance', public.ledger_balance_json(a, public.ledger_spendable(v_user_id, v_now))
    ), v_now);
END
$$;

-- Give a whole hold back. A hold that has expired gave it back already; releasing it then says that nothing will come
-- late, and moves nothing. The reason is a note, not part of the request.
CREATE FUNCTION public.ledger_release(
    p_hold_id uuid, p_key text, p_reason text, p_now timestamptz DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_user_id text := (SELECT h.user_id FROM public.credit_holds h WHERE h.hold_id = p_hold_id);
    v_request bytea := sha256(convert_to(jsonb_build_array('release', p_hold_id)::text, 'UTF8'));
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
        a := public.ledger_settle(a, p_hold_id, 0, 'released', p_reason, v_now);
    ELSE
        UPDATE public.credit_holds SET final = true, reason = p_reason WHERE hold_id = p_hold_id;
    END IF;
    RETURN public.ledger_remember(v_user_id, p_key, 'release', v_request, jsonb_build_object(
        'captured', 0, 'released', h.quoted, 'late', false,
        'balance', public.ledger_balance_json(a, public.ledger_spendable(v_user_id, v_now))
    ), v_now);
END
$$;

-- Write down what the clock has done to one account: open holds past their end, then buckets past theirs. By its
-- nature idempotent, so it takes no key. Returns how many holds lapsed and how many credits expired.
CREATE FUNCTION public.ledger_expire(p_user_id text, p_now timestamptz DEFAULT NULL) RETURNS jsonb
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
            a := public.ledger_settle(a, v_hold_id, 0, 'expired', 'the hold ran out', v_now);
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

-- The sweep: ledger_expire for up to p_limit accounts that have something due, passing over those that are locked. An
-- account that contradicts itself is left as it is, counted as failed, and keeps nobody else's credits waiting.
CREATE FUNCTION public.ledger_expire_due(p_limit integer, p_now timestamptz DEFAULT NULL) RETURNS jsonb
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
            v_expired := public.ledger_expire(v_user_id, v_now);
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

-- STABLE on purpose: every statement inside reads the caller's snapshot, so the account and its buckets agree.
CREATE FUNCTION public.ledger_balance(p_user_id text, p_now timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    v record;
BEGIN
    SELECT p.account, p.available INTO v
    FROM public.ledger_peek(p_user_id, coalesce(p_now, clock_timestamp())) p;
    RETURN public.ledger_balance_json(v.account, v.available);
END
$$;

-- What ledger_reserve would decide about p_amount now.
CREATE FUNCTION public.ledger_decide(p_user_id text, p_amount bigint, p_now timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    v record;
BEGIN
    IF p_amount IS NULL OR p_amount NOT BETWEEN 0 AND 1000000000000 THEN
        RAISE EXCEPTION 'a price is of 0 to 10^12 credits' USING ERRCODE = 'TW007';
    END IF;
    SELECT p.account, p.available INTO v
    FROM public.ledger_peek(p_user_id, coalesce(p_now, clock_timestamp())) p;
    RETURN public.ledger_judge(v.account, v.available, p_amount);
END
$$;

-- ---------------------------------------------------------------------------------------------- who may do what
-- Row-level security without policies: nobody but the owner. Supabase grants its browser roles everything by default,
-- so what it gave is taken back where those roles exist.

ALTER TABLE public.user_billing ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_hold_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credit_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.price_versions ENABLE ROW LEVEL SECURITY;

DO $$
DECLARE
    v_role text;
    v_function regprocedure;
BEGIN
    FOR v_role IN
        SELECT 'PUBLIC' UNION ALL
        SELECT quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON public.user_billing, public.credit_buckets, public.credit_holds, '
            'public.credit_hold_parts, public.credit_entries, public.credit_operations, public.price_versions '
            'FROM %s', v_role);
        EXECUTE format('REVOKE ALL ON SEQUENCE public.credit_buckets_bucket_id_seq, '
            'public.price_versions_version_seq FROM %s', v_role);
        FOR v_function IN
            SELECT p.oid FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\_%'
        LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_function, v_role);
        END LOOP;
    END LOOP;
END
$$;
