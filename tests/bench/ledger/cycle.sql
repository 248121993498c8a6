SELECT
    ledger_reserve(
        'user_bench_' || :n, 'reserve:' || g, g, 1, now() + interval '2 days', :price::text::jsonb, g, NULL
    )::text AS reserved,
    g AS hold
FROM gen_random_uuid() AS g \gset
SELECT ledger_capture(:hold::uuid, 'settle:' || :hold, 1, NULL)::text;
