-- Some keys and references carry an id behind a colon: they are cut off there. Ids by themselves go in Python.

-- name: footprints
SELECT u.user_id, jsonb_build_object(
    'account', to_jsonb(u) - '{user_id,head_hash,created_at}'::text[],
    'terms', (SELECT to_jsonb(p) FROM credit_plans p WHERE p.plan = u.plan),
    -- What they changed of plans and prices, by the keys of acts.py.
    'changes', (
        SELECT jsonb_agg(to_jsonb(o) - '{key,request_hash,actor,act_seq,act_hash}'::text[] || jsonb_build_object(
                'theirs', o.actor = u.user_id, 'price', v.unit_credits) ORDER BY o.scope, o.key)
        FROM credit_operations o
        LEFT JOIN price_versions v ON o.scope = 'prices' AND v.version = (o.outcome ->> 'version')::bigint
        WHERE o.scope IN ('plans', 'prices') AND o.key IN ('a ' || u.user_id, 'b ' || u.user_id)),
    'buckets', (
        SELECT jsonb_agg(to_jsonb(b) - '{user_id,created_at}'::text[]
            || jsonb_build_object('source_ref', split_part(b.source_ref, ':', 1)) ORDER BY b.kind, b.source_ref)
        FROM credit_buckets b WHERE b.user_id = u.user_id),
    'holds', (
        SELECT jsonb_agg(to_jsonb(h) - '{user_id,generation_id,price}'::text[] ORDER BY h.quoted, h.created_at, h.first_seq)
        FROM credit_holds h WHERE h.user_id = u.user_id),
    'entries', (
        SELECT jsonb_agg(to_jsonb(e) - '{user_id,hash}'::text[] || jsonb_build_object(
                'bucket', split_part(b.source_ref, ':', 1), 'hold', h.quoted, 'actor', nullif(e.actor, e.user_id),
                'detail', e.detail - 'source_ref') ORDER BY e.seq)
        FROM (
            SELECT *, first_value(seq) OVER (PARTITION BY txn_id ORDER BY seq) AS opened_by FROM credit_entries
            WHERE user_id = u.user_id
        ) e
        LEFT JOIN credit_buckets b USING (bucket_id) LEFT JOIN credit_holds h USING (hold_id)),
    'operations', (
        SELECT jsonb_agg(to_jsonb(o) - '{scope,request_hash,act_hash,created_at}'::text[] || jsonb_build_object(
                'key', split_part(o.key, ':', 1), 'actor', nullif(o.actor, o.scope))
            ORDER BY split_part(o.key, ':', 1), o.kind, o.outcome::text)
        FROM credit_operations o WHERE o.scope = u.user_id),
    'warnings', (
        SELECT jsonb_agg(to_jsonb(w) - '{user_id,warning_id}'::text[] ORDER BY w.warning_id)
        FROM credit_warnings w WHERE w.user_id = u.user_id)
) AS footprint
FROM user_billing u
WHERE u.user_id = ANY ($1::text[]);
