"""Mutants of what every operation is made of: locks, replays, the draw, the hash, posting, tidying, judging."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "ledger_lock": [
        (
            "lock nothing, read what was",
            (
                "v_in_line text := pg_advisory_xact_lock(public.ledger_line(p_user_id))::text;\n"
                "    a public.user_billing;\nBEGIN\n"
            ),
            (
                "a public.user_billing;\nBEGIN\n"
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
        ("answer another request", "v_request_hash <> p_request_hash", "false"),
        ("answer somebody else", "o.scope = p_scope AND ", ""),
        ("forget what was answered", "IF NOT FOUND THEN", "IF true THEN"),
        ("do not say that it is a replay", '{"replayed": true}', '{"replayed": false}'),
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
        ("take a whole bucket", "least(v_remaining, p_amount - available)", "v_remaining"),
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
            (f"hash without {what}", member, "NULL, '" if member.endswith(", '") else "NULL")
            for what, member in (
                ("person", "to_json(p_user_id)"),
                ("number", "p_seq, '"),
                ("transaction", "p_txn_id, '"),
                ("kind", "p_move.kind"),
                ("source", "p_move.from_leg"),
                ("target", "p_move.to_leg"),
                ("amount", "p_move.amount"),
                ("bucket", "p_move.bucket_id::text"),
                ("hold", "p_hold_id::text"),
                ("actor", "to_json(p_actor)"),
                ("posted", "p_posted, '"),
                ("held", "p_held, '"),
                ("overdraft", "p_overdraft_used, '"),
                ("promised overdraft", "p_overdraft_held, '"),
                ("time", "(extract(epoch FROM p_at) * 1000000)::bigint"),
            )
        ),
        ("hash without what was before", "sha256(p_previous || ", "sha256("),
        ("hash without detail", "', ' || p_detail::text", "NULL"),
    ],
    "ledger_post": [
        ("skip a number", "a.seq := a.seq + 1", "a.seq := a.seq + 2"),
        ("keep the old head", "head_hash = a.head_hash, ", ""),
        ("keep the old posted", "posted = a.posted, ", ""),
        ("keep the old due time", "due_at = a.due_at, holds", "holds"),
        ("keep the old due time of holds", "holds_due_at = a.holds_due_at", "holds_due_at = u.holds_due_at"),
        ("a bucket keeps what was held", "held = b.held + v_held", "held = b.held"),
        ("a bucket keeps what was taken", "remaining = b.remaining + v_available", "remaining = b.remaining"),
        ("a bucket lives for ever", "v_available + b.held + v_held > 0", "v_available + b.held + v_held >= 0"),
        ("a debt is paid and stays", "m.bucket_id IS NULL OR m.kind = 'repay'", "m.bucket_id IS NULL"),
        ("debt comes from nowhere", "m.bucket_id IS NULL OR m.kind = 'repay'", "m.kind = 'repay'"),
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
}
