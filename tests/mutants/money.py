"""Mutants of what is done on every reserve, capture and release: locks, replays, arithmetic, order, time."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "ledger_lock": [
        (
            "lock nothing, read what was",
            (
                "v_in_line text := pg_advisory_xact_lock(public.ledger_line(p_user_id))::text;\n"
                "    r record;\n    a public.user_billing;\nBEGIN\n"
            ),
            (
                "r record;\n    a public.user_billing;\nBEGIN\n"
                "    SELECT * INTO a FROM public.user_billing WHERE user_id = p_user_id;\n"
                "    IF FOUND THEN RETURN public.ledger_on_terms(a); END IF;\n"
            ),
        ),
        ("only stand in line", " FOR NO KEY UPDATE OF u", ""),
        ("open an account twice", "ON CONFLICT DO NOTHING", ""),
        ("judge by one's own policy or none", "coalesce(u.policy, p.policy)", "u.policy"),
        ("judge by the plan's policy", "coalesce(u.policy, p.policy)", "p.policy"),
        ("judge by one's own limit or none", "coalesce(u.overdraft_limit, p.overdraft_limit)", "u.overdraft_limit"),
        ("judge by the plan's limit", "coalesce(u.overdraft_limit, p.overdraft_limit)", "p.overdraft_limit"),
        (
            "judge by one's own threshold or none",
            "coalesce(u.low_balance_threshold, p.low_balance_threshold)",
            "u.low_balance_threshold",
        ),
        (
            "judge by the plan's threshold",
            "coalesce(u.low_balance_threshold, p.low_balance_threshold)",
            "p.low_balance_threshold",
        ),
    ],
    "ledger_on_terms": [
        ("the plan's policy over one's own", "coalesce(a.policy, p.policy)", "coalesce(p.policy, a.policy)"),
        (
            "the plan's limit over one's own",
            "coalesce(a.overdraft_limit, p.overdraft_limit)",
            "coalesce(p.overdraft_limit, a.overdraft_limit)",
        ),
        (
            "the plan's threshold over one's own",
            "coalesce(a.low_balance_threshold, p.low_balance_threshold)",
            "coalesce(p.low_balance_threshold, a.low_balance_threshold)",
        ),
    ],
    "ledger_replay": [
        ("a key without characters", "NOT BETWEEN 1 AND 255", "NOT BETWEEN 0 AND 255"),
        ("a key without end", "NOT BETWEEN 1 AND 255", "NOT BETWEEN 1 AND 99999"),
        ("answer another request", "o.request_hash <> p_request_hash", "false"),
        ("answer somebody else", "scope = p_scope AND key", "key"),
        ("forget what was answered", "IF NOT FOUND THEN", "IF true THEN"),
        ("do not say that it is a replay", '{"replayed": true}', '{"replayed": false}'),
    ],
    "ledger_remember": [
        ("forget who it was", "p_now, p_actor, p_detail)", "p_now, NULL, p_detail)"),
        ("forget why", "p_now, p_actor, p_detail)", "p_now, p_actor, NULL)"),
    ],
    "ledger_draw": [
        ("ignore the priority", "ORDER BY b.priority, b.expires_at", "ORDER BY b.expires_at"),
        ("never-ending credits first", "NULLS LAST", "NULLS FIRST"),
        ("late-ending credits first", "b.expires_at NULLS LAST", "b.expires_at DESC NULLS LAST"),
        ("paid before promotional", "b.kind, b.effective_at", "b.kind DESC, b.effective_at"),
        ("youngest first", "b.kind, b.effective_at", "b.kind, b.effective_at DESC"),
        ("credits of the future", "b.effective_at <= p_now", "true"),
        ("not yet in the first moment", "b.effective_at <= p_now", "b.effective_at < p_now"),
        ("expired credits", "b.expires_at > p_now", "true"),
        ("still in the last moment", "b.expires_at > p_now", "b.expires_at >= p_now"),
        ("take a whole bucket", "least(s.remaining, p_amount - available)", "s.remaining"),
        ("one bucket too many", "available < p_amount", "available <= p_amount"),
        ("everybody's credits", "b.user_id = p_user_id AND", ""),
    ],
    "ledger_spendable": [
        ("tell of credits of the future", "b.effective_at <= p_now", "true"),
        ("tell of expired credits", "b.expires_at > p_now", "true"),
        ("tell of the last moment", "b.expires_at > p_now", "b.expires_at >= p_now"),
    ],
    "ledger_hash": [
        *(
            (f"hash without {what}", member, "NULL")
            for what, member in (
                ("person", "p_user_id, p_seq"),
                ("transaction", "p_txn_id, p_move.kind"),
                ("kind", "p_move.kind"),
                ("source", "p_move.from_leg"),
                ("target", "p_move.to_leg"),
                ("amount", "p_move.amount"),
                ("bucket", "p_move.bucket_id"),
                ("hold", "p_hold_id, p_actor"),
                ("balances", "p_posted, p_held, p_overdraft_used, p_overdraft_held"),
                ("time", "(extract(epoch FROM p_at) * 1000000)::bigint"),
            )
        ),
        ("hash without what was before", "sha256(p_previous || ", "sha256("),
        ("hash without detail", "p_detail IS NOT NULL", "false"),
    ],
    "ledger_post": [
        ("skip a number", "a.seq := a.seq + 1", "a.seq := a.seq + 2"),
        ("keep the old head", "head_hash = a.head_hash, ", ""),
        ("keep the old posted", "posted = a.posted, ", ""),
        ("keep the old due time", "due_at = a.due_at, holds", "holds"),
        ("keep the old due time of holds", "holds_due_at = a.holds_due_at", "holds_due_at = u.holds_due_at"),
        ("a bucket keeps what was held", "held = b.held + v_held", "held = b.held"),
        ("a bucket keeps what was taken", "remaining = b.remaining + v_available", "remaining = b.remaining"),
        ("fill a bucket twice", "m.from_leg NOT IN ('issued', 'revenue')", "true"),
        ("forget the day of the daily credits", "daily_granted_on = a.daily_granted_on, ", ""),
        ("warn again and again", "warned = a.warned", "warned = 0"),
        ("an entry forgets why", "a.head_hash, p_detail);\n        -- A", "a.head_hash, NULL);\n        -- A"),
    ],
    "ledger_tidy": [
        ("expire what is held", "b.remaining, b.bucket_id)::", "b.remaining + b.held, b.bucket_id)::"),
        ("expire a moment late", "b.expires_at <= p_now", "b.expires_at < p_now"),
        ("expire nothing", "b.remaining > 0 AND b.expires_at <= p_now", "false"),
        ("look too late", "SELECT min(t.due)", "SELECT max(t.due)"),
        (
            "look only for ends",
            "CASE WHEN b.effective_at > p_now THEN b.effective_at ELSE b.expires_at END",
            "b.expires_at",
        ),
        ("repay nothing", "IF a.overdraft_used > 0", "IF false"),
        ("never told again when credits become effective", "WHEN v_came THEN", "WHEN false THEN"),
        ("what was given comes in twice", "AND b.effective_at > b.created_at", ""),
    ],
    "ledger_judge": [
        ("hard lends, too", "a.policy = 'hard' THEN\n        v_verdict", "false THEN\n        v_verdict"),
        ("soft lends without end", "v_missing > v_room", "false"),
        ("not up to the limit", "v_missing > v_room", "v_missing >= v_room"),
        (
            "debt takes no room",
            "a.overdraft_limit - a.overdraft_used - a.overdraft_held;",
            "a.overdraft_limit - a.overdraft_held;",
        ),
        (
            "promised overdraft takes no room",
            "a.overdraft_limit - a.overdraft_used - a.overdraft_held;",
            "a.overdraft_limit - a.overdraft_used;",
        ),
        ("hard forgets the debt", "v_missing + a.overdraft_used;", "v_missing;"),
        ("soft forgets the debt", "v_missing + a.overdraft_used - greatest", "v_missing - greatest"),
        (
            "a lowered limit weighs",
            "greatest(a.overdraft_limit - a.overdraft_held, 0);",
            "(a.overdraft_limit - a.overdraft_held);",
        ),
        (
            "warn of low balance late",
            "p_available - p_amount < a.low_balance_threshold",
            "p_available - p_amount < a.low_balance_threshold - 1",
        ),
        (
            "warn of low balance early",
            "p_available - p_amount < a.low_balance_threshold",
            "p_available - p_amount <= a.low_balance_threshold",
        ),
        ("warn of what is free", "ELSIF p_amount > 0 THEN", "ELSE"),
        ("no word of the overdraft", "v_reasons := '{overdraft}'", "v_reasons := '{}'"),
        ("hard affords too much", "WHEN 'hard' THEN p_available", "WHEN 'hard' THEN p_available + greatest(v_room, 0)"),
        ("soft affords too little", "p_available + greatest(v_room, 0)", "p_available"),
        ("a deep debt takes from what is affordable", "greatest(v_room, 0)", "v_room"),
    ],
    "ledger_reserve": [
        ("reserve a second time", "IF v_outcome IS NOT NULL THEN", "IF false THEN"),
        ("reserve less than nothing", "NOT BETWEEN 0 AND 1000000000000", "NOT BETWEEN -10 AND 1000000000000"),
        ("reserve without end", "NOT BETWEEN 0 AND 1000000000000", "< 0"),
        ("a hold that is over", "OR p_expires_at <= v_now", ""),
        (
            "any price under one key",
            "'reserve', p_generation_id, p_amount, p_price",
            "'reserve', p_generation_id, p_amount",
        ),
        (
            "any amount under one key",
            "'reserve', p_generation_id, p_amount, p_price",
            "'reserve', p_generation_id, p_price",
        ),
        (
            "any generation under one key",
            "'reserve', p_generation_id, p_amount, p_price",
            "'reserve', p_amount, p_price",
        ),
        ("judge before writing down", "IF a.due_at <= v_now OR a.overdraft_used > 0 THEN", "IF false THEN"),
        ("no daily credits at first use", "v_daily > 0", "false"),
        ("hold what is denied", "= 'block'", "= 'never'"),
        ("hold without the overdraft", "IF p_amount > v_available THEN", "IF false THEN"),
        ("a second hold of one generation", "IF NOT FOUND THEN\n            RAISE", "IF false THEN\n            RAISE"),
        ("no second round", "IF NOT FOUND THEN\n        INSERT", "IF false THEN\n        INSERT"),
        ("a hold beside an open one", "AND h.final AND", "AND"),
        ("a hold after a charge", "AND h.captured + h.late_captured = 0", ""),
        ("a hold after a charge in time", "h.captured + h.late_captured = 0", "h.late_captured = 0"),
        ("a hold after a late charge", "h.captured + h.late_captured = 0", "h.captured = 0"),
        ("a hold of somebody else's generation", "h.user_id = p_user_id AND", ""),
        ("one round and no more", "max(h.round) + 1", "1"),
        (
            "the sweep may come late",
            "a.holds_due_at := least(a.holds_due_at, p_expires_at);",
            "a.holds_due_at := p_expires_at;",
        ),
        ("the sweep never hears", "a.holds_due_at := least(a.holds_due_at, p_expires_at);", ""),
        ("warn nobody", "= 'warn'", "= 'never'"),
        ("wait for ever", "lock_timeout TO '3s'", "lock_timeout TO '0'"),
    ],
    "ledger_settle": [
        ("charge more than a part", "least(p.amount, v_left)", "v_left"),
        ("charge every part anew", "v_left := v_left - v_captured;", ""),
        ("return nothing", "IF v_captured < p.amount THEN", "IF false THEN"),
        (
            "return only the first part",
            "p.amount - v_captured, p.bucket_id)::public.ledger_movement || v_returned",
            "p.amount - v_captured, p.bucket_id)::public.ledger_movement",
        ),
        ("unwind from the wrong end", "ORDER BY q.ordinal", "ORDER BY q.ordinal DESC"),
        (
            "the returned do not expire",
            (
                "a.due_at := least(a.due_at, (\n"
                "                SELECT CASE WHEN b.expires_at <= p_now THEN p_now ELSE b.expires_at END\n"
                "                FROM public.credit_buckets b WHERE b.bucket_id = p.bucket_id));"
            ),
            "",
        ),
        (
            "what is returned past its end was due then",
            "CASE WHEN b.expires_at <= p_now THEN p_now ELSE b.expires_at END",
            "b.expires_at",
        ),
        ("a lapsed hold is final", "final = p_state <> 'expired'", "final = true"),
        ("leave the returned untidy", "IF a.due_at <= p_now OR a.overdraft_used > 0 THEN", "IF false THEN"),
        ("a lapse looks like a release", "WHEN 'expired' THEN 'lapse'", "WHEN 'expired' THEN 'release'"),
    ],
    "ledger_capture": [
        ("capture a second time", "IF v_outcome IS NOT NULL THEN", "IF false THEN"),
        ("capture what is over", "IF h.final THEN", "IF false THEN"),
        ("capture less than nothing", "p_amount IS NULL OR p_amount < 0", "false"),
        ("capture more than the quote", "ELSIF p_amount > h.quoted", "ELSIF false"),
        ("any amount under the capture's key", "'capture', p_hold_id, p_amount", "'capture', p_hold_id"),
        ("any hold under the capture's key", "'capture', p_hold_id, p_amount", "'capture', p_amount"),
        ("a late capture on stale credits", "IF a.due_at <= v_now OR a.overdraft_used > 0 THEN", "IF false THEN"),
        ("a late capture makes no debt", "IF p_amount > v_available THEN", "IF false THEN"),
        ("a late capture is not flagged", "late = true, late_captured = p_amount, final", "final"),
        ("a late capture stays open", ", final = true WHERE", " WHERE"),
        ("a late capture warns nobody", "a := public.ledger_warn", "PERFORM public.ledger_warn"),
        ("a late capture does not say what is left", "v_available - least(p_amount, v_available)", "NULL"),
        (
            "read before the lock",
            "a := public.ledger_lock(v_user_id);",
            "SELECT * INTO a FROM public.user_billing WHERE user_id = v_user_id;",
        ),
    ],
    "ledger_release": [
        ("release a second time", "IF v_outcome IS NOT NULL THEN", "IF false THEN"),
        ("release what is over", "IF h.final THEN", "IF false THEN"),
        ("a released lapse stays open", "SET final = true, reason", "SET reason"),
        ("any hold under the release's key", "'release', p_hold_id)", "'release')"),
        (
            "release before the lock",
            "a := public.ledger_lock(v_user_id);",
            "SELECT * INTO a FROM public.user_billing WHERE user_id = v_user_id;",
        ),
    ],
    "ledger_expire": [
        ("lapse what is settled", "AND h.state = 'open'\n            ORDER", "ORDER"),
        ("lapse too early", "BETWEEN a.holds_due_at AND v_now", "BETWEEN a.holds_due_at AND v_now + interval '1 hour'"),
        ("forget the next hold", "SELECT min(h.expires_at)", "SELECT max(h.expires_at)"),
        ("lapse nothing", "IF a.holds_due_at <= v_now THEN", "IF false THEN"),
        ("a moment late with holds", "IF a.holds_due_at <= v_now THEN", "IF a.holds_due_at < v_now THEN"),
        ("expire only with holds", "ELSIF a.due_at <= v_now THEN", "ELSIF false THEN"),
    ],
    "ledger_expire_due": [
        (
            "wait in line for the busy",
            "CONTINUE WHEN NOT pg_try_advisory_xact_lock(public.ledger_line(v_user_id));",
            "",
        ),
        ("wait for a busy row", "SKIP LOCKED", ""),
        ("sweep what was swept", "least(u.due_at, u.holds_due_at) <= v_now", "true"),
        ("sweep without bound", "EXIT WHEN v_accounts >= p_limit;", ""),
        ("the failed fill the bound", "v_accounts >= p_limit", "v_accounts + v_failed >= p_limit"),
        ("one forged account stops all", "WHEN check_violation", "WHEN division_by_zero"),
        ("sweep no buckets", "u.due_at <= v_now OR ", ""),
        ("sweep no holds", " OR u.holds_due_at <= v_now", ""),
    ],
}
