-- What must be true of everything in `public`, asked of pg_catalog: each statement gives a line for whatever is wrong.

-- name: undecided
SELECT format('%s has no decision: its comment is %L', c.oid::regclass, obj_description(c.oid, 'pg_class'))
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND coalesce(obj_description(c.oid, 'pg_class'), '')
        !~ '^access: (own rows|everybody signed in|server only)\. \S';

-- name: unsecured
SELECT format('%s has no row-level security', c.oid::regclass)
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity;

-- name: writable
-- by nobody but the owner. has_…_privilege counts what PUBLIC has, and what roles are members of
SELECT format('%s may %s %s', role, privilege, c.oid::regclass)
FROM pg_class c, unnest('{anon,authenticated,service_role}'::text[]) AS role,
    unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
    has_table_privilege(role, c.oid, privilege)
    OR (privilege IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(role, c.oid, privilege)));

-- name: readable
-- anon reads nothing; a person's session reads what was decided, and a view only when it asks as whoever looks
SELECT format('%s may read %s', role, c.oid::regclass)
FROM pg_class c, unnest('{anon,authenticated}'::text[]) AS role
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_any_column_privilege(role, c.oid, 'SELECT') AND (
        role = 'anon' OR c.relkind IN ('m', 'f')
        OR (c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false))
        OR obj_description(c.oid, 'pg_class') LIKE 'access: server only.%');

-- name: withheld
-- a person's session reads every column but those that the decision names: a new one is decided about anew
SELECT format('authenticated may not read %s of %s, and it was decided to withhold %s', columns.closed, c.oid::regclass,
    decided.withheld)
FROM pg_class c, LATERAL (
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname::text), '{}') AS closed FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND NOT has_column_privilege('authenticated', c.oid, a.attnum, 'SELECT')
) AS columns, LATERAL (
    SELECT coalesce(array_agg(name ORDER BY name), '{}') AS withheld FROM unnest(string_to_array(
        substring(obj_description(c.oid, 'pg_class') FROM '^access: [^.]+\. Withheld: ([^.]+)\.'), ', ')) AS name
) AS decided
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND obj_description(c.oid, 'pg_class') ~ '^access: (own rows|everybody signed in)\.'
    AND columns.closed <> decided.withheld;

-- name: policies
-- one for each table that can be read, none for the others, and only ever for reading
SELECT format('%s has the policies %s', c.oid::regclass, coalesce(string_agg(format('%s %s for %s', p.polname,
    p.polcmd, p.polroles::regrole[]), ', ') FILTER (WHERE p.oid IS NOT NULL), 'none'))
FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
GROUP BY c.oid
HAVING count(p) <> (obj_description(c.oid, 'pg_class') NOT LIKE 'access: server only.%')::int
    OR NOT coalesce(bool_and(
        p.polcmd = 'r' AND p.polpermissive AND p.polroles = ARRAY['authenticated'::regrole]::oid[]), true);

-- name: unwrapped
-- the person is asked for in a subquery, once a statement: nothing is called for each row
SELECT format('%s has the policy %s', p.polrelid::regclass, without.person)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid,
    LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) AS whole) AS condition,
    LATERAL (SELECT replace(condition.whole, '( SELECT (auth.jwt() ->> ''sub''::text))', 'PERSON') AS person) AS without
WHERE c.relnamespace = 'public'::regnamespace AND CASE
    WHEN obj_description(c.oid, 'pg_class') LIKE 'access: everybody signed in.%' THEN condition.whole <> 'true'
    ELSE without.person !~ '\mPERSON = (\w+\.)?user_id\M|\muser_id = PERSON\M' OR without.person ~ '[a-z]\('
END;

-- name: sequences
SELECT format('%s may use %s', role, c.oid::regclass)
FROM pg_class c, unnest('{anon,authenticated,service_role}'::text[]) AS role
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
    AND has_sequence_privilege(role, c.oid, 'USAGE, SELECT, UPDATE');

-- name: functions
SELECT format('%s may call %s', role, p.oid::regprocedure)
FROM pg_proc p, unnest('{anon,authenticated,service_role}'::text[]) AS role
WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE')
    AND (role = 'anon' OR p.provolatile = 'v' OR p.prosecdef);
