"""Mutants of the price list: how a version is added, how it is chained, and what a hold may keep of it."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "prices_add": [
        ("add without a queue", "PERFORM public.price_versions_queue();", ""),
        (
            "look at the clock before the queue",
            "PERFORM public.price_versions_queue();\n    v_now := coalesce(p_now, clock_timestamp());",
            "v_now := coalesce(p_now, clock_timestamp());\n    PERFORM public.price_versions_queue();",
        ),
        ("add a second time", "v_outcome IS NOT NULL", "false"),
        ("begin in the past", "p_effective_at < v_now", "false"),
        ("not even now", "p_effective_at < v_now", "p_effective_at <= v_now"),
        ("any type under one key", "'price', p_type, p_endpoint", "'price', p_endpoint"),
        ("any endpoint under one key", "'price', p_type, p_endpoint, ", "'price', p_type, "),
        ("any unit under one key", "p_endpoint, p_unit_credits,\n        p_batch", "p_endpoint,\n        p_batch"),
        (
            "any tiers under one key",
            "p_batch_multipliers, p_surcharges, extract",
            "p_surcharges, extract",
        ),
        (
            "any surcharges under one key",
            "p_batch_multipliers, p_surcharges, extract",
            "p_batch_multipliers, extract",
        ),
        ("any start under one key", "extract(epoch FROM p_effective_at), ", ""),
        ("any note under one key", "p_note, p_withdrawn)::text", "p_withdrawn)::text"),
        ("withdrawn or not under one key", "p_note, p_withdrawn)::text", "p_note)::text"),
        ("a start is now", "coalesce(p_effective_at, v_now)", "v_now"),
        ("forget who it was", "v_now, p_actor,\n        jsonb", "v_now, NULL,\n        jsonb"),
        ("forget why", "jsonb_build_object('reason', p_note)", "'{}'::jsonb"),
        ("wait for ever", "lock_timeout TO '3s'", "lock_timeout TO '0'"),
    ],
    "price_versions_queue": [
        (
            "a queue for each",
            "hashtextextended('public.price_versions', 0)",
            "pg_backend_pid()",
        ),
    ],
    "price_versions_wait": [("insert without a queue", "PERFORM public.price_versions_queue();", "")],
    # That the first of all follows a row of zeros is not seen: the migrations have written the first.
    "price_versions_link": [
        ("slip in behind", "NEW.version <= v_last.version", "false"),
        ("follow the first", "DESC LIMIT 1", "LIMIT 1"),
        ("follow what one likes", "coalesce(v_last.hash,", "coalesce(NEW.previous_hash, v_last.hash,"),
        (
            "say what one likes",
            "NEW.hash := public.price_hash(NEW.previous_hash, NEW)",
            "NEW.hash := NEW.previous_hash",
        ),
    ],
    "price_fits": [
        ("of any version", "(p_price ->> 'price_version')::bigint = p_row.version", "true"),
        ("of any type", "AND p_price ->> 'type' = p_row.type", ""),
        ("of what was withdrawn", "AND NOT p_row.withdrawn", ""),
        ("of any unit", "AND (p_price ->> 'unit_credits')::bigint = p_row.unit_credits", ""),
        ("of a tier that is not reached", "(t ->> 'min_batch')::bigint <= (p_price ->> 'batch_size')::bigint", "true"),
        ("of the lowest tier", "::bigint DESC LIMIT 1", "::bigint LIMIT 1"),
        ("only with tiers", "), 1000)", "), 0)"),
        ("with surcharges of its own", "AND extra.known", ""),
        ("less than is included is given back", "greatest(0, ceil(", "greatest(-1000, ceil("),
        ("a step that is begun is free", "greatest(0, ceil(", "greatest(0, floor("),
        ("surcharges are free", "(p_row.unit_credits + extra.credits)", "(p_row.unit_credits)"),
        ("a fraction is free", ")::numeric = ceil(", ")::numeric = floor("),
        ("only with a total", "p_price ->> 'total' IS NULL OR ", ""),
        ("when nothing is known", "        false)\n", "        true)\n"),
    ],
}
