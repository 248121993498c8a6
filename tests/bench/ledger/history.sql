-- A long history, fast: what the real functions leave behind after a grant and many cycles, with the real ledger_hash.

CREATE FUNCTION bench_chain(p_users text[], p_cycles integer, p_step interval) RETURNS SETOF credit_entries
LANGUAGE plpgsql AS $$
DECLARE
    a user_billing;
    e credit_entries;
    m ledger_movement;
BEGIN
    FOR a IN SELECT * FROM user_billing WHERE user_id = ANY (p_users) LOOP
        SELECT * INTO e FROM credit_entries WHERE user_id = a.user_id AND seq = a.seq;
        m.bucket_id := (SELECT bucket_id FROM credit_buckets WHERE user_id = a.user_id);
        e.bucket_id := m.bucket_id;
        m.amount := 1;
        FOR i IN 1 .. 2 * p_cycles LOOP
            e.seq := e.seq + 1;
            e.txn_id := gen_random_uuid();
            e.detail := NULL;
            e.at := e.at + p_step;
            IF i % 2 = 1 THEN
                e.hold_id := gen_random_uuid();
                m.kind := 'reserve';
                m.from_leg := 'available';
                m.to_leg := 'held';
                e.actor := e.user_id;
                e.held_after := 1;
            ELSE
                m.kind := 'capture';
                m.from_leg := 'held';
                m.to_leg := 'revenue';
                e.actor := 'system';
                e.held_after := 0;
                e.posted_after := e.posted_after - 1;
            END IF;
            e.kind := m.kind;
            e.from_leg := m.from_leg;
            e.to_leg := m.to_leg;
            e.amount := m.amount;
            e.hash := ledger_hash(e.hash, e.user_id, e.seq, e.txn_id, m, e.hold_id, e.actor,
                e.posted_after, e.held_after, e.overdraft_used_after, e.overdraft_held_after, e.at, NULL);
            RETURN NEXT e;
        END LOOP;
    END LOOP;
END
$$;

-- So many more cycles for each of these accounts, which have nothing but one bucket and what this function did before.
CREATE FUNCTION bench_history(p_users text[], p_cycles integer, p_step interval, p_price jsonb) RETURNS void
LANGUAGE sql AS $$
    WITH chain AS MATERIALIZED (
        SELECT * FROM bench_chain(p_users, p_cycles, p_step)
    ), entries AS (
        INSERT INTO credit_entries SELECT * FROM chain
    ), holds AS (
        INSERT INTO credit_holds (hold_id, user_id, generation_id, state, quoted, captured, final, price,
            created_at, expires_at, settled_at, first_seq, last_seq)
        SELECT hold_id, user_id, hold_id, 'captured', 1, 1, true, p_price, at, at + interval '2 days', at + p_step,
            seq, seq
        FROM chain WHERE kind = 'reserve'
    ), operations AS (
        INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at, actor)
        SELECT c.user_id, c.kind || ':' || c.hold_id, c.kind,
            sha256(convert_to((CASE c.kind
                WHEN 'reserve' THEN jsonb_build_array('reserve', c.hold_id, 1, p_price)
                ELSE jsonb_build_array('capture', c.hold_id, 1)
            END)::text, 'UTF8')),
            CASE c.kind
                WHEN 'reserve' THEN jsonb_build_object('outcome', 'held', 'hold_id', c.hold_id, 'txn_id', c.txn_id,
                    'expires_at', ledger_moment(c.at + interval '2 days'),
                    'decision', jsonb_build_object('verdict', 'allow', 'reasons', '[]'::jsonb, 'shortfall', 0,
                        'remaining', c.posted_after - 1, 'affordable', c.posted_after,
                        'balance', b.balance || jsonb_build_object('available', c.posted_after, 'held', 0)),
                    'balance', b.balance)
                ELSE jsonb_build_object('captured', 1, 'released', 0, 'late', false, 'hold_id', c.hold_id,
                    'txn_id', c.txn_id, 'balance', b.balance || '{"available": null}')
            END, c.at, c.actor
        FROM chain c
        CROSS JOIN LATERAL (
            SELECT jsonb_build_object('available', c.posted_after - c.held_after, 'held', c.held_after,
                'posted', c.posted_after, 'overdraft_used', 0, 'overdraft_limit', 0) AS balance
        ) b
    ), buckets AS (
        UPDATE credit_buckets SET remaining = remaining - p_cycles WHERE user_id = ANY (p_users)
    )
    UPDATE user_billing u SET posted = u.posted - p_cycles, seq = c.seq, head_hash = c.hash
    FROM chain c WHERE c.user_id = u.user_id AND c.seq = u.seq + 2 * p_cycles
$$;
