SELECT
    ledger_reserve(
        'user_bench_' || :client_id, 'reserve:' || g, g, 1, now() + interval '2 days',
        '{"price_version": 1, "type": "text", "unit_credits": 1, "batch_size": 1, "multiplier_permille": 1000, "total": 1}'::text::jsonb,
        g, NULL
    )::text AS reserved,
    g AS hold
FROM gen_random_uuid() AS g \gset
SELECT ledger_capture(:hold::uuid, 'settle:' || :hold, 1, NULL)::text;
