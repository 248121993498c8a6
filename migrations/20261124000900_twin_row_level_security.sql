-- Who may read what. A person's session is the role `authenticated` with their claims in request.jwt.claims: the API
-- takes it for every read of theirs (api/state.py), and it is what a browser has through Supabase's own doors. Reading
-- is all it can do: whatever writes is the owner's.
--
-- The roles, and auth.jwt(), are Supabase's: made where they are missing, left as they are where they exist.

-- ---------------------------------------------------------------------------------------------- roles and claims

DO $$
DECLARE
    v_role text;
    v_since_16 boolean := current_setting('server_version_num')::int >= 160000;
    -- service_role passes row-level security where we may say so. Nothing of ours asks for that.
    v_may_bypass boolean := (
        SELECT rolsuper OR (rolbypassrls AND v_since_16) FROM pg_roles WHERE rolname = current_user);
BEGIN
    FOREACH v_role IN ARRAY '{anon,authenticated,service_role}'::text[] LOOP
        CONTINUE WHEN to_regrole(v_role) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT %s', v_role,
                CASE WHEN v_role = 'service_role' AND v_may_bypass THEN 'BYPASSRLS' END);
        EXCEPTION
            -- Roles are of the whole server, and another database of it is migrated at this moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not make the role %, which is missing', current_user, v_role
                    USING ERRCODE = 'insufficient_privilege', HINT = 'Migrate as a role with CREATEROLE, or have '
                    'somebody run: CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; '
                    'CREATE ROLE service_role NOLOGIN; GRANT authenticated TO ' || quote_ident(current_user);
        END;
    END LOOP;

    IF NOT pg_has_role(current_user, 'authenticated', CASE WHEN v_since_16 THEN 'SET' ELSE 'MEMBER' END) THEN
        BEGIN
            GRANT authenticated TO CURRENT_USER;
        EXCEPTION
            WHEN unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not take the role authenticated, as which people''s rows are read', current_user
                    USING ERRCODE = 'insufficient_privilege',
                    HINT = 'Have somebody run: GRANT authenticated TO ' || quote_ident(current_user);
        END;
    END IF;

    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
        GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
    END IF;
    -- Asked of the catalog: to_regprocedure would fail in a schema that is closed to us.
    IF NOT EXISTS (
        SELECT FROM pg_proc WHERE pronamespace = to_regnamespace('auth') AND proname = 'jwt' AND pronargs = 0
    ) THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $jwt$
            SELECT coalesce(
                nullif(current_setting('request.jwt.claim', true), ''),
                nullif(current_setting('request.jwt.claims', true), '')
            )::jsonb
        $jwt$;
    END IF;
    FOREACH v_role IN ARRAY ARRAY[current_user, 'authenticated'] LOOP
        CONTINUE WHEN has_schema_privilege(v_role, 'auth', 'USAGE') AND (
            SELECT has_function_privilege(v_role, oid, 'EXECUTE') FROM pg_proc
            WHERE pronamespace = to_regnamespace('auth') AND proname = 'jwt' AND pronargs = 0);
        RAISE EXCEPTION '% may not call auth.jwt(), which says whose session it is', v_role
            USING ERRCODE = 'insufficient_privilege', HINT = format('Have the owner of the schema auth run: '
            'GRANT USAGE ON SCHEMA auth TO %1$I; GRANT EXECUTE ON FUNCTION auth.jwt() TO %1$I', v_role);
    END LOOP;
    IF NOT has_schema_privilege('authenticated', 'public', 'USAGE') THEN
        GRANT USAGE ON SCHEMA public TO authenticated;
    END IF;
END
$$;

-- ---------------------------------------------------------------------------------------------- how it is decided

-- Decide who reads a table, and write the decision into its comment. Every table has one; for a new one its migration
-- calls this. Called again, it decides anew.
--   own rows             each person the rows that are theirs by p_own
--   everybody signed in  all rows
--   server only          nobody but the owner
-- p_withheld are columns that are kept back all the same. Supabase grants its browser roles everything on everything by
-- default, so what was granted is taken back first.
CREATE FUNCTION public.access_to_table(
    p_table regclass, p_access text, p_why text,
    -- The claim is read in a subquery: once a statement, not once a row.
    p_own text DEFAULT '(SELECT auth.jwt() ->> ''sub'') = user_id', p_withheld text[] DEFAULT '{}'
) RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    v_sequence regclass;
BEGIN
    IF p_access NOT IN ('own rows', 'everybody signed in', 'server only') THEN
        RAISE EXCEPTION 'there is no access "%"', p_access;
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated', p_table);
    FOR v_sequence IN
        SELECT c.oid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
        WHERE d.refobjid = p_table AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, anon, authenticated', v_sequence);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = p_table AND polname = 'reading') THEN
        EXECUTE format('DROP POLICY reading ON %s', p_table);
    END IF;
    IF p_access <> 'server only' THEN
        EXECUTE format('GRANT SELECT %s ON %s TO authenticated', CASE WHEN p_withheld <> '{}' THEN (
            SELECT format('(%s)', string_agg(quote_ident(a.attname), ', ')) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = p_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (p_withheld)
        ) END, p_table);
        EXECUTE format('CREATE POLICY reading ON %s FOR SELECT TO authenticated USING (%s)', p_table,
            CASE p_access WHEN 'own rows' THEN p_own ELSE 'true' END);
    END IF;
    EXECUTE format('COMMENT ON TABLE %s IS %L', p_table, format('access: %s. %s', p_access, p_why));
END
$$;

-- Of our functions a person's session may run those of the ledger that only read: the ones that Postgres does not let
-- write (STABLE, IMMUTABLE) and that see what the session sees. A migration that adds functions calls this at its end.
CREATE FUNCTION public.access_to_functions() RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    f record;
BEGIN
    FOR f IN
        SELECT p.oid::regprocedure AS signature,
            p.proname LIKE 'ledger\_%' AND p.provolatile <> 'v' AND NOT p.prosecdef AS reads
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^(access|generations?|ledger|prices?)_'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated', f.signature);
        IF f.reads THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO authenticated', f.signature);
        END IF;
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------- what was decided
-- Own rows are read whole, as the front end's SELECT * does. No column of them is a key to anything: a lease token
-- counts only for who may write, RunPod's ids only with RunPod's key, and a webhook's address is signed, not stored.

SELECT
    public.access_to_table('public.user_billing', 'own rows', 'What a person has.'),
    public.access_to_table('public.credit_buckets', 'own rows', 'Where it comes from and when it ends.'),
    public.access_to_table('public.credit_holds', 'own rows', 'What is promised, at which price.'),
    public.access_to_table('public.credit_hold_parts', 'own rows', 'What a promise draws on.',
        'EXISTS (SELECT FROM public.credit_holds h WHERE h.hold_id = credit_hold_parts.hold_id '
        'AND h.user_id = (SELECT auth.jwt() ->> ''sub''))'),
    public.access_to_table('public.credit_entries', 'own rows', 'The statement; its hashes can be checked.'),
    public.access_to_table('public.credit_warnings', 'own rows', 'What a person was told.'),
    public.access_to_table('public.generations', 'own rows', 'The history.'),
    public.access_to_table('public.generation_transitions', 'own rows', 'How each came about.'),
    public.access_to_table('public.price_versions', 'everybody signed in', 'The price list, without its authors.',
        p_withheld => '{created_by,note}'),
    public.access_to_table('public.credit_plans', 'everybody signed in', 'What a plan gives.'),
    public.access_to_table('public.credit_operations', 'server only', 'The audit log: it names staff.'),
    public.access_to_table('public.ledger_verifications', 'server only', 'What verification found: it names accounts.'),
    public.access_to_table('public.generation_attempts', 'server only', 'What we said to RunPod.'),
    public.access_to_table('public.generation_results', 'server only', 'What RunPod said, unchecked.'),
    public.access_to_table('public.webhook_receipts', 'server only', 'What RunPod''s webhooks said, unchecked.'),
    public.access_to_table('public.idempotency_keys', 'server only', 'Replies that are kept for repeats.'),
    public.access_to_functions();

-- ---------------------------------------------------------------------------------------------- an index that counts
-- Before a row has passed its policy, Postgres applies only conditions that cannot leak it, and equality of enums is
-- not among them: under a policy the index on (user_id, type, …) would find the person and not the type. Text is.
-- (A new type asks for a new expression: NOT NULL says so.)

-- The table is rewritten once; generations have only begun to be made.
-- squawk-ignore adding-field-with-default
ALTER TABLE public.generations ADD COLUMN type_name text NOT NULL GENERATED ALWAYS AS (
    CASE type
        WHEN 'text' THEN 'text' WHEN 'image' THEN 'image' WHEN 'modify' THEN 'modify' WHEN 'video' THEN 'video'
    END
) STORED;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX public.generations_history_by_type;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX generations_history_by_type ON public.generations (user_id, type_name, created_at DESC, id DESC);
