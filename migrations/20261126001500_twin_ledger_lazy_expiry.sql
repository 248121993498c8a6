-- The same money once more: what is captured whole asks nothing of its buckets. Measured with `make bench-ledger`.

-- End an open hold: capture the first p_amount of it in the order it was taken, give the rest back in reverse, then do
-- what the returned credits ask for (expire with their bucket, pay debt) under the same transaction id. When a bucket ends
-- is looked up only when something returns to it: nearly every hold is captured whole.
CREATE OR REPLACE FUNCTION public.ledger_settle(
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
        SELECT q.ordinal, q.bucket_id, q.amount FROM public.credit_hold_parts q
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
            -- The overdraft has no bucket, and NULL is never the least.
            a.due_at := least(a.due_at, (
                SELECT CASE WHEN b.expires_at <= p_now THEN p_now ELSE b.expires_at END
                FROM public.credit_buckets b WHERE b.bucket_id = p.bucket_id));
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
