"""Mutants of the chain of what people did, and of what verification takes from it."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "ledger_remember": [
        ("forget who worked", "p_now, p_actor, p_detail);\n    ELSE", "p_now, NULL, p_detail);\n    ELSE"),
        ("what work does is an act", "IF p_kind IN ('reserve', 'capture', 'release') THEN", "IF false THEN"),
    ],
    "ledger_remember_act": [
        ("forget who it was", "o.actor := p_actor;", ""),
        ("forget why", "o.detail := p_detail;", ""),
        ("the chain of acts begins anew", "coalesce(v_last.act_seq, 0) + 1", "1"),
        ("acts seal nothing", "coalesce(v_last.act_hash, ", "coalesce(NULL, "),
        (
            "nobody knows where the acts stand",
            "DO UPDATE SET act_seq = excluded.act_seq, act_hash = excluded.act_hash",
            "DO NOTHING",
        ),
        ("an act of no moment in the chain", "(SELECT u.seq FROM", "(SELECT u.seq + 1 FROM"),
        ("an act of a moment before", "(SELECT u.seq FROM", "(SELECT u.seq - 1 FROM"),
    ],
    # None of ledger_act_hash: what the migrations did is sealed by it already, so any test would miss any change of it.
    "ledger_day_fits": [
        ("a place that is none", "WHEN invalid_parameter_value", "WHEN division_by_zero"),
        (
            "any day of a place that is none",
            'RETURN p_date COLLATE "C" BETWEEN',
            'RETURN true OR p_date COLLATE "C" BETWEEN',
        ),
        (
            "any end at a place that is none",
            'AND p_ends_at COLLATE "C" BETWEEN public.ledger_moment(p_at)',
            'AND true OR p_ends_at COLLATE "C" BETWEEN public.ledger_moment(p_at)',
        ),
        ("any date", "p_date = v_date::text AND", ""),
        ("any end", "IF p_date = v_date::text AND p_ends_at", "IF p_date = v_date::text OR p_ends_at"),
        ("no rule was ever corrected", "'3 hours'", "'0 hours'"),
    ],
    "ledger_plans_over_time": [
        ("a plan is seen too early", "s.since - interval '1 minute'", "s.since"),
        ("a plan is seen too late", " + interval '1 minute'", ""),
        ("a plan of any time", "s.since - interval '1 minute'", "s.since - interval '1 year'"),
        ("a plan that was", " + interval '1 minute'", " + interval '1 year'"),
    ],
    "ledger_new_plan": [("a new plan gives", "'daily_credits', 0", "'daily_credits', 1")],
    "ledger_bring_up_to_date": [
        ("what ended can be taken", "IF a.due_at <= p_now OR a.overdraft_used > 0 THEN", "IF false THEN"),
        ("a debt waits for the next look", " OR a.overdraft_used > 0", ""),
        ("the day's credits are not looked for", "IF v_daily > 0 THEN", "IF false THEN"),
    ],
}
