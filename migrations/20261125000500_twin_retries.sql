-- A generation that failed or was cancelled can be tried again: a new round of attempts under a new hold. A generation
-- has one hold at a time. The next is made when the one before has ended and took nothing, so over all rounds a person
-- is charged once at most.
--
-- Names and signatures stay. Code of the version before knows one round: it cannot settle a second one (its key was used
-- for the first), and leaves it to its successor.
-- squawk-ignore-file require-concurrent-index-creation, ban-drop-constraint

-- ---------------------------------------------------------------------------------------------- holds

-- The rounds of a generation are numbered without a gap: no two people, and no two requests, make the same one.
ALTER TABLE public.credit_holds
    ADD COLUMN round integer NOT NULL DEFAULT 1,
    ADD CONSTRAINT credit_holds_round CHECK (round >= 1) NOT VALID;
CREATE UNIQUE INDEX credit_holds_rounds ON public.credit_holds (generation_id, round);
ALTER TABLE public.credit_holds DROP CONSTRAINT credit_holds_generation_id_key;

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

-- ---------------------------------------------------------------------------------------------- generations

ALTER TABLE public.generations
    -- How often it was tried again, and when last: since then it waits. hold_id, price_version, quoted and charged are
    -- those of the last round.
    ADD COLUMN retries integer NOT NULL DEFAULT 0,
    ADD COLUMN retried_at timestamptz,
    -- Attempts up to this one are of earlier rounds, whose holds have ended.
    ADD COLUMN earlier_attempts integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT generations_retries CHECK (retries >= 0 AND earlier_attempts >= 0) NOT VALID,
    ADD CONSTRAINT generations_retries_are_dated CHECK ((retries > 0) = (retried_at IS NOT NULL)) NOT VALID;

-- Dead letters, newest first.
CREATE INDEX generations_dead_letters ON public.generations (finished_at DESC, id DESC) WHERE state = 'failed';

CREATE OR REPLACE FUNCTION public.generation_may_move(
    from_state public.generation_state, to_state public.generation_state
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_state = ANY (CASE from_state
        WHEN 'reserved' THEN '{submitting,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitting' THEN '{reserved,submitted,failed,cancelled}'::public.generation_state[]
        WHEN 'submitted' THEN '{running,finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'running' THEN '{finishing,failed,cancelled}'::public.generation_state[]
        WHEN 'finishing' THEN '{completed,failed,cancelled}'::public.generation_state[]
        -- tried again
        WHEN 'failed' THEN '{reserved}'::public.generation_state[]
        WHEN 'cancelled' THEN '{reserved}'::public.generation_state[]
        ELSE '{}'::public.generation_state[]
    END)
$$;

-- What has ended free of charge begins again under a new hold, as the next round.
CREATE OR REPLACE FUNCTION public.generations_guard_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    IF NOT public.generation_may_move(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a generation does not move from % to %', OLD.state, NEW.state
            USING ERRCODE = 'TWS01';
    END IF;
    IF public.generation_is_terminal(OLD.state) AND (
        NEW.hold_id = OLD.hold_id OR NEW.retries <> OLD.retries + 1 OR OLD.charged > 0
    ) THEN
        RAISE EXCEPTION 'a generation that is % begins again under a new hold only', OLD.state
            USING ERRCODE = 'TWS01';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

-- How each round ended that another one followed: its row is the next round's now.
CREATE TABLE public.generation_retries (
    generation_id uuid NOT NULL REFERENCES public.generations (id) ON DELETE CASCADE,
    -- the round that ended
    round integer NOT NULL CHECK (round >= 1),
    hold_id uuid NOT NULL REFERENCES public.credit_holds (hold_id),
    state public.generation_state NOT NULL CHECK (state IN ('failed', 'cancelled')),
    error_code text,
    error_detail text,
    endpoint text,
    finished_at timestamptz NOT NULL,
    retried_at timestamptz NOT NULL,
    retried_by text NOT NULL CHECK (retried_by <> ''),
    -- the attempt whose answer was read and found wanting, so that it is not read again; and how the answer began
    answered_attempt integer,
    remote_status text,
    answer bytea CHECK (octet_length(answer) <= 4096),
    PRIMARY KEY (generation_id, round)
);
CREATE INDEX generation_retries_age ON public.generation_retries (retried_at) WHERE answer IS NOT NULL;

SELECT public.access_to_table('public.generation_retries', 'server only', 'What RunPod said, unchecked; it names staff.');
