-- Start-time fair queueing: who is sent next. Each type of generation has a line of its own, in virtual time:
--
--     vstart  = greatest(where the person's last one of the type ends, the line's clock)
--     vfinish = vstart + cost / weight of the plan
--
-- and the line is sent in the order of vstart. Two who keep a line busy share it by their weights, within the cost of
-- one job; whoever comes new starts at the clock, so nobody pays later for what they did while nobody waited. The clock
-- is the highest vstart that was claimed. A clock and an end for each type: the lines are served by different endpoints,
-- so somebody's thousand videos say nothing about whose text is next.
--
-- A plan may limit how many generations of one person are on their way at once. What is over the limit is held back: it
-- is in no line, so that no claim ever reads it, and joins the line when one of the person's own has ended.

-- The newest index comes with the first rows that it would find: the columns are new, nothing waits for them.
-- squawk-ignore-file require-concurrent-index-creation

CREATE TABLE public.queue_clock (
    type public.generation_type PRIMARY KEY,
    vtime bigint NOT NULL DEFAULT 0 CHECK (vtime >= 0),
    -- When the line last moved: among lines with as much claim to a worker's next slot, the one that waited longest.
    moved_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO public.queue_clock (type) SELECT unnest(enum_range(NULL::public.generation_type));

-- Where a person's last generation of a type ends. Written with the account locked.
CREATE TABLE public.queue_ends (
    user_id text NOT NULL REFERENCES public.user_billing (user_id),
    type public.generation_type NOT NULL,
    vfinish bigint NOT NULL CHECK (vfinish >= 0),
    PRIMARY KEY (user_id, type)
) WITH (fillfactor = 70);

-- One end for all types would not do (above); nothing ever read it.
-- squawk-ignore ban-drop-column
ALTER TABLE public.user_billing DROP COLUMN vfinish;

ALTER TABLE public.credit_plans
    -- How many generations of one person are on their way at once; NULL: any number.
    ADD COLUMN max_in_flight integer,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT credit_plans_max_in_flight CHECK (max_in_flight BETWEEN 1 AND 10000);

ALTER TABLE public.generations
    -- What waits now, and what the version before this one inserts while it is replaced, is first.
    ADD COLUMN vstart bigint NOT NULL DEFAULT 0,
    ADD COLUMN held_back boolean NOT NULL DEFAULT false,
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT generations_held_back_waits CHECK (NOT held_back OR state = 'reserved');

-- The lines, and what a person has open: on its way, or held back in order.
CREATE INDEX generations_line ON public.generations (type, vstart, id) WHERE state = 'reserved' AND NOT held_back;
CREATE INDEX generations_open ON public.generations (user_id, held_back, vstart, id) WHERE due_at IS NOT NULL;

SELECT
    public.access_to_table('public.queue_clock', 'server only', 'It tells how busy everybody is.'),
    public.access_to_table('public.queue_ends', 'server only', 'Where each person stands in line.');

-- Make a plan, or change what p_terms names of it. As before, and with a limit in flight: null takes it away.
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
    RETURN public.ledger_remember('plans', p_key, 'set-plan', v_request, jsonb_build_object(
        'before', CASE WHEN v_before.plan IS NOT NULL THEN to_jsonb(v_before) END, 'after', to_jsonb(v_after)
    ), coalesce(p_now, clock_timestamp()), p_actor, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
EXCEPTION
    WHEN check_violation OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION 'a plan has 1 to 64 characters, whole credits in range, a weight of 1 to 1000, 1 to 10000 in flight'
            USING ERRCODE = 'TW007';
END
$$;
