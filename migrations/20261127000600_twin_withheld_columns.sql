-- Whom a person's credits were corrected by is between us: credit_entries.actor is withheld from them, as the API withholds
-- it. What is withheld of a table is part of its decision, so that tests can tell it from a column that was forgotten.
--
-- And of our tables their owner alone writes. Supabase grants everything on everything to service_role, too, whose key is
-- in every server that somebody runs beside us; nothing of ours writes as it, and a row that it wrote would be money that
-- no function moved. What it may read it still may.

-- What a decision grants, and its text. Called again, it decides anew: nothing but grants and the comment is touched, so
-- nobody who is at work on the table is waited for.
CREATE FUNCTION public.access_grants(p_table regclass, p_access text, p_why text, p_withheld text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    v_sequence regclass;
    v_server_reads boolean := has_table_privilege('service_role', p_table, 'SELECT');
BEGIN
    IF p_access NOT IN ('own rows', 'everybody signed in', 'server only') THEN
        RAISE EXCEPTION 'there is no access "%"', p_access;
    END IF;
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated, service_role', p_table);
    FOR v_sequence IN
        SELECT c.oid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
        WHERE d.refobjid = p_table AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, anon, authenticated, service_role', v_sequence);
    END LOOP;
    IF v_server_reads THEN
        EXECUTE format('GRANT SELECT ON %s TO service_role', p_table);
    END IF;
    IF p_access <> 'server only' THEN
        EXECUTE format('GRANT SELECT %s ON %s TO authenticated', CASE WHEN p_withheld <> '{}' THEN (
            SELECT format('(%s)', string_agg(quote_ident(a.attname), ', ')) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = p_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (p_withheld)
        ) END, p_table);
    END IF;
    EXECUTE format('COMMENT ON TABLE %s IS %L', p_table, format('access: %s. %s%s', p_access,
        'Withheld: ' || nullif(array_to_string(p_withheld, ', '), '') || '. ', p_why));
END
$$;

CREATE OR REPLACE FUNCTION public.access_to_table(
    p_table regclass, p_access text, p_why text,
    p_own text DEFAULT '(SELECT auth.jwt() ->> ''sub'') = user_id', p_withheld text[] DEFAULT '{}'
) RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    PERFORM public.access_grants(p_table, p_access, p_why, p_withheld);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    IF EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = p_table AND polname = 'reading') THEN
        EXECUTE format('DROP POLICY reading ON %s', p_table);
    END IF;
    IF p_access <> 'server only' THEN
        EXECUTE format('CREATE POLICY reading ON %s FOR SELECT TO authenticated USING (%s)', p_table,
            CASE p_access WHEN 'own rows' THEN p_own ELSE 'true' END);
    END IF;
END
$$;

-- What writes is taken from service_role, too.
CREATE OR REPLACE FUNCTION public.access_to_functions() RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    f record;
BEGIN
    FOR f IN
        SELECT p.oid::regprocedure AS signature,
            p.proname LIKE 'ledger\_%' AND p.provolatile <> 'v' AND NOT p.prosecdef AS reads,
            p.provolatile = 'v' OR p.prosecdef AS writes
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^(access|generations?|ledger|prices?)_'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated', f.signature);
        IF f.reads THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO authenticated', f.signature);
        END IF;
        IF f.writes THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM service_role', f.signature);
        END IF;
    END LOOP;
END
$$;

-- By column, since a person asks it.
CREATE OR REPLACE FUNCTION public.ledger_books_at(p_user_id text, p_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = '' AS $$
DECLARE
    e record;
BEGIN
    SELECT l.seq, l.posted_after, l.held_after, l.overdraft_held_after, l.overdraft_used_after INTO e
    FROM public.credit_entries l WHERE l.user_id = p_user_id AND l.seq = public.ledger_seq_at(p_user_id, p_at);
    RETURN jsonb_build_object('seq', coalesce(e.seq, 0), 'posted', coalesce(e.posted_after, 0),
        'held', coalesce(e.held_after + e.overdraft_held_after, 0), 'overdraft_used', coalesce(e.overdraft_used_after, 0));
END
$$;

-- ---------------------------------------------------------------------------------------------- what was decided

SELECT public.access_grants(c.oid, decided.parts[1], decided.parts[2])
FROM pg_class c
CROSS JOIN LATERAL regexp_match(obj_description(c.oid, 'pg_class'), '^access: ([^.]+)\. (.+)$') AS decided (parts)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND decided.parts IS NOT NULL;

SELECT
    public.access_grants('public.credit_entries', 'own rows', 'The statement; who of the staff corrected it is not told.',
        '{actor}'),
    public.access_grants('public.price_versions', 'everybody signed in', 'The price list, without its authors.',
        '{created_by,note}'),
    public.access_to_functions();
