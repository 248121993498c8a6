-- What a settlement answers: the books after it, and not what can be spent, unless it had to know that. The buckets tell it,
-- which is a fifteenth of all that a reserve and a capture do, and nobody reads it there: whoever wants to know it asks.
-- Measured with `make bench-ledger`. The key stays, empty: the version before this one reads it, and makes nothing of it.

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
        -- A late one may have warned, of what is left.
        'balance', public.ledger_balance_json(a, v_available - least(p_amount, v_available))
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
        'balance', public.ledger_balance_json(a, NULL)
    ), v_now, 'system');
END
$$;
