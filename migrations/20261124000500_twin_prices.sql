-- Prices that depend on parameters, prices of single endpoints, and a chain by which an edited price can be named.
--
-- A version is never edited: it is in force from effective_at until the next version for the same type and endpoint
-- is. Unit = unit_credits + surcharges; cost = unit x count x multiplier (shared/pricing.py rounds it, once).
--
-- One error more than in …_twin_ledger.sql:
--   TW050  a price cannot begin in the past

-- ---------------------------------------------------------------------------------------------- surcharges

-- Whether an array of objects is of whole numbers, names each value of p_member once, and has at most p_most elements.
CREATE FUNCTION public.price_list_is_plain(p_list jsonb, p_member text, p_most integer) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT CASE WHEN jsonb_typeof(p_list) = 'array' THEN (
        -- 900.0 would pass for a whole number in SQL, and be a float outside of it
        SELECT count(*) <= p_most AND count(*) = count(DISTINCT e -> p_member) AND p_list::text !~ '\.'
        FROM jsonb_array_elements(p_list) e
    ) ELSE false END
$$;

-- The most that one generation can cost at a price: the largest batch that a row may have, every parameter at a value
-- that no order reaches (api/orders.py), the dearest tier.
CREATE FUNCTION public.price_ceiling(p_unit_credits bigint, p_batch_multipliers jsonb, p_surcharges jsonb)
RETURNS numeric LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT (p_unit_credits + (
        SELECT coalesce(sum((s ->> 'credits')::numeric * greatest(0, ceil(
            (CASE s ->> 'parameter' WHEN 'pixels' THEN 16777216 ELSE 1000 END - (s ->> 'included')::numeric)
            / (s ->> 'step')::numeric))), 0)
        FROM jsonb_array_elements(p_surcharges) s
    )) * 64 * (
        SELECT greatest(1000, max((t ->> 'multiplier_permille')::numeric)) FROM jsonb_array_elements(p_batch_multipliers) t
    ) / 1000
$$;

-- Constraints are checked in the order of their names: within_a_hold reads what the others have found well-formed.
ALTER TABLE public.price_versions
    -- Per output, every started `step` above `included` adds `credits`:
    -- [{"parameter": "steps", "included": 20, "step": 10, "credits": 1}]. pixels is width times height. A parameter that
    -- is not given adds nothing.
    ADD COLUMN surcharges jsonb NOT NULL DEFAULT '[]',
    -- From now on this endpoint has no price of its own, and so cannot be asked for.
    ADD COLUMN withdrawn boolean NOT NULL DEFAULT false,
    -- The chain: of the version before, and of this one.
    ADD COLUMN previous_hash bytea,
    ADD COLUMN hash bytea;

ALTER TABLE public.price_versions
    ADD CONSTRAINT price_versions_batch_multipliers_plain
    CHECK (public.price_list_is_plain(batch_multipliers, 'min_batch', 64)) NOT VALID,
    ADD CONSTRAINT price_versions_endpoint_is_a_name
    CHECK (endpoint ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$') NOT VALID,
    ADD CONSTRAINT price_versions_not_backdated
    CHECK (effective_at >= created_at OR created_by = 'migration') NOT VALID,
    ADD CONSTRAINT price_versions_surcharges_check
    CHECK (
        jsonb_typeof(surcharges) = 'array'
        AND jsonb_array_length(surcharges) = jsonb_array_length(jsonb_path_query_array(
            surcharges,
            '$[*] ? ((@.parameter == "steps" || @.parameter == "pixels" || @.parameter == "seconds")
                && @.included.type() == "number" && @.included >= 0 && @.included <= 1000000000
                && @.included.floor() == @.included
                && @.step.type() == "number" && @.step >= 1 && @.step <= 1000000000 && @.step.floor() == @.step
                && @.credits.type() == "number" && @.credits >= 0 && @.credits <= 1000000000
                && @.credits.floor() == @.credits)'
        ))
    ) NOT VALID,
    ADD CONSTRAINT price_versions_surcharges_plain
    CHECK (public.price_list_is_plain(surcharges, 'parameter', 3)) NOT VALID,
    ADD CONSTRAINT price_versions_withdrawn_says_nothing_else
    CHECK (NOT withdrawn OR (
        endpoint IS NOT NULL AND unit_credits = 0 AND batch_multipliers = '[]' AND surcharges = '[]'
    )) NOT VALID,
    -- The ledger holds 10^12 credits at most.
    ADD CONSTRAINT price_versions_within_a_hold
    CHECK (public.price_ceiling(unit_credits, batch_multipliers, surcharges) <= 1000000000000) NOT VALID;

-- ---------------------------------------------------------------------------------------------- the chain

-- One link: the hash of the version before, and everything that this version says. A JSON array is the canonical text.
CREATE FUNCTION public.price_hash(p_previous bytea, p_row public.price_versions) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT sha256(p_previous || convert_to(jsonb_build_array(
        p_row.version, p_row.type, p_row.endpoint, p_row.unit_credits, p_row.batch_multipliers, p_row.surcharges,
        (extract(epoch FROM p_row.effective_at) * 1000000)::bigint,
        (extract(epoch FROM p_row.created_at) * 1000000)::bigint, p_row.created_by, p_row.note,
        p_row.withdrawn
    )::text, 'UTF8'))
$$;

-- One at a time from here to the end of the transaction, so that the order of versions is the order of the chain.
CREATE FUNCTION public.price_versions_queue() RETURNS void
LANGUAGE sql SET search_path = '' AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('public.price_versions', 0))
$$;

CREATE FUNCTION public.price_versions_wait() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    PERFORM public.price_versions_queue();
    RETURN NULL;
END
$$;

-- Runs when the lock is had, in a statement of its own: it sees what the one before committed.
CREATE FUNCTION public.price_versions_link() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    v_last record;
BEGIN
    SELECT p.version, p.hash INTO v_last FROM public.price_versions p ORDER BY p.version DESC LIMIT 1;
    IF NEW.version <= v_last.version THEN
        RAISE EXCEPTION 'price version % comes after %', NEW.version, v_last.version USING ERRCODE = 'TW008';
    END IF;
    NEW.previous_hash := coalesce(v_last.hash, '\x0000000000000000000000000000000000000000000000000000000000000000');
    NEW.hash := public.price_hash(NEW.previous_hash, NEW);
    RETURN NEW;
END
$$;

ALTER TABLE public.price_versions DISABLE TRIGGER price_versions_append_only;
DO $$
DECLARE
    v public.price_versions;
    v_hash bytea := '\x0000000000000000000000000000000000000000000000000000000000000000';
BEGIN
    FOR v IN SELECT * FROM public.price_versions ORDER BY version LOOP
        UPDATE public.price_versions p SET previous_hash = v_hash, hash = public.price_hash(v_hash, v)
        WHERE p.version = v.version
        RETURNING p.hash INTO v_hash;
    END LOOP;
END
$$;
ALTER TABLE public.price_versions ENABLE TRIGGER price_versions_append_only;

-- Every version has the operation that added it: one without was put there by hand, and verification says so.
INSERT INTO public.credit_operations (scope, key, kind, request_hash, outcome, created_at, actor, detail)
SELECT 'prices', 'migration:' || p.version, 'price', sha256(''),
    jsonb_build_object('version', p.version, 'hash', encode(p.hash, 'hex')), p.created_at, p.created_by,
    jsonb_strip_nulls(jsonb_build_object('reason', p.note))
FROM public.price_versions p;

-- A price list is a few rows: nobody waits for these.
ALTER TABLE public.price_versions
    -- squawk-ignore adding-not-nullable-field
    ALTER COLUMN previous_hash SET NOT NULL,
    -- squawk-ignore adding-not-nullable-field
    ALTER COLUMN hash SET NOT NULL,
    -- No two versions follow the same one, whatever the isolation level of whoever adds them.
    -- squawk-ignore disallowed-unique-constraint, constraint-missing-not-valid
    ADD CONSTRAINT price_versions_chain_does_not_fork UNIQUE (previous_hash);

-- Before the identity hands out the version, which a trigger for each row would be too late for.
CREATE TRIGGER price_versions_wait BEFORE INSERT ON public.price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION public.price_versions_wait();
CREATE TRIGGER price_versions_link BEFORE INSERT ON public.price_versions
    FOR EACH ROW EXECUTE FUNCTION public.price_versions_link();

-- ---------------------------------------------------------------------------------------------- what a hold keeps

-- Whether a hold's price is what the catalogue said at its version, the arithmetic included (I9). Holds from before
-- there were surcharges have none.
CREATE FUNCTION public.price_fits(p_price jsonb, p_row public.price_versions) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT coalesce(
        (p_price ->> 'price_version')::bigint = p_row.version
        AND p_price ->> 'type' = p_row.type
        AND NOT p_row.withdrawn
        AND (p_price ->> 'unit_credits')::bigint = p_row.unit_credits
        AND (p_price ->> 'multiplier_permille')::bigint = coalesce((
            SELECT (t ->> 'multiplier_permille')::bigint FROM jsonb_array_elements(p_row.batch_multipliers) t
            WHERE (t ->> 'min_batch')::bigint <= (p_price ->> 'batch_size')::bigint
            ORDER BY (t ->> 'min_batch')::bigint DESC LIMIT 1
        ), 1000)
        AND extra.known
        AND (p_price ->> 'total' IS NULL OR (p_price ->> 'total')::numeric = ceil(
            (p_row.unit_credits + extra.credits) * (p_price ->> 'batch_size')::numeric
            * (p_price ->> 'multiplier_permille')::numeric / 1000)),
        false)
    FROM (
        SELECT coalesce(bool_and(p_row.surcharges @> jsonb_build_array(s - 'amount')), true) AS known,
            coalesce(sum((s ->> 'credits')::numeric * greatest(0, ceil(
                ((s ->> 'amount')::numeric - (s ->> 'included')::numeric) / (s ->> 'step')::numeric))), 0) AS credits
        FROM jsonb_array_elements(coalesce(p_price -> 'surcharges', '[]')) s
    ) extra
$$;

-- ---------------------------------------------------------------------------------------------- the operation

-- Add a version. Idempotent by key; without p_effective_at it is in force from now on. p_withdrawn: the endpoint has no
-- price of its own any more.
CREATE FUNCTION public.prices_add(
    p_key text, p_type text, p_endpoint text, p_unit_credits bigint, p_batch_multipliers jsonb, p_surcharges jsonb,
    p_effective_at timestamptz, p_note text, p_actor text, p_now timestamptz DEFAULT NULL,
    p_withdrawn boolean DEFAULT false
) RETURNS jsonb LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
    v_request bytea := sha256(convert_to(jsonb_build_array('price', p_type, p_endpoint, p_unit_credits,
        p_batch_multipliers, p_surcharges, extract(epoch FROM p_effective_at), p_note, p_withdrawn)::text, 'UTF8'));
    v_now timestamptz;
    v_outcome jsonb;
    v public.price_versions;
BEGIN
    PERFORM public.price_versions_queue();
    v_now := coalesce(p_now, clock_timestamp());
    v_outcome := public.ledger_replay('prices', p_key, v_request);
    IF v_outcome IS NOT NULL THEN
        RETURN v_outcome;
    END IF;
    IF p_effective_at < v_now THEN
        RAISE EXCEPTION 'a price cannot begin in the past' USING ERRCODE = 'TW050';
    END IF;
    INSERT INTO public.price_versions
        (type, endpoint, unit_credits, batch_multipliers, surcharges, effective_at, created_at, created_by, note, withdrawn)
    VALUES (p_type, p_endpoint, p_unit_credits, p_batch_multipliers, p_surcharges, coalesce(p_effective_at, v_now),
        v_now, p_actor, p_note, p_withdrawn)
    RETURNING * INTO v;
    RETURN public.ledger_remember('prices', p_key, 'price', v_request,
        jsonb_build_object('version', v.version, 'hash', encode(v.hash, 'hex')), v_now, p_actor,
        jsonb_strip_nulls(jsonb_build_object('reason', p_note)));
END
$$;

-- The endpoint that the person asked for, and no other. NULL: wherever the type is sent.
ALTER TABLE public.generations ADD COLUMN wanted_endpoint text;
ALTER TABLE public.generations
    ADD CONSTRAINT generations_wanted_endpoint_is_a_name
    CHECK (wanted_endpoint ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$') NOT VALID;

-- ---------------------------------------------------------------------------------------------- who may do what

DO $$
DECLARE
    v_role text;
    v_function regprocedure;
BEGIN
    FOR v_role IN
        SELECT 'PUBLIC' UNION ALL
        SELECT quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        FOR v_function IN
            SELECT p.oid FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^prices?_'
        LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_function, v_role);
        END LOOP;
    END LOOP;
END
$$;
