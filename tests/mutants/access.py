"""Mutants of who may do what: what a migration's decision takes back, and what it gives."""

EVERYBODY = "PUBLIC, anon, authenticated, service_role"
ALL_BUT = {
    "everybody": "anon, authenticated, service_role",
    "anon": "PUBLIC, authenticated, service_role",
    "authenticated": "PUBLIC, anon, service_role",
    "service_role": "PUBLIC, anon, authenticated",
}

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "access_grants": [
        ("any word is a decision", "p_access NOT IN ('own rows', 'everybody signed in', 'server only')", "false"),
        ("what was granted stays", f"EXECUTE format('REVOKE ALL ON %s FROM {EVERYBODY}', p_table);", ""),
        *(
            (
                f"what {role} was granted stays",
                f"'REVOKE ALL ON %s FROM {EVERYBODY}'",
                f"'REVOKE ALL ON %s FROM {left}'",
            )
            for role, left in ALL_BUT.items()
        ),
        *(
            (
                f"what {role} was granted on its sequences stays",
                f"SEQUENCE %s FROM {EVERYBODY}'",
                f"SEQUENCE %s FROM {left}'",
            )
            for role, left in ALL_BUT.items()
        ),
        ("what was granted on its sequences stays", "d.refobjid = p_table", "false"),
        ("its own sequences are not its", "d.deptype IN ('a', 'i')", "d.deptype = 'a'"),
        ("the server reads what it did not", "IF v_server_reads THEN", "IF true THEN"),
        ("the server reads no more", "IF v_server_reads THEN", "IF false THEN"),
        ("the server writes what it reads", "GRANT SELECT ON %s TO service_role", "GRANT ALL ON %s TO service_role"),
        ("what is the server's can be read", "p_access <> 'server only'", "true"),
        ("what is granted is nothing", "p_access <> 'server only'", "false"),
        ("nothing is withheld", "p_withheld <> '{}'", "false"),
        ("what is withheld is read", "a.attname <> ALL (p_withheld)", "true"),
        ("a decision is not told", "'COMMENT ON TABLE %s IS %L'", "'COMMENT ON TABLE %s IS NULL -- %L'"),
        ("what is withheld is not told", "array_to_string(p_withheld, ', ')", "''"),
        ("of what is withheld one is told", "array_to_string(p_withheld, ', ')", "p_withheld[1]"),
        ("why is not told", "|| '. ', p_why)", "|| '. ', '')"),
    ],
    "access_to_table": [
        ("nothing is granted", "PERFORM public.access_grants(p_table, p_access, p_why, p_withheld);", ""),
        ("nothing is withheld", "p_why, p_withheld);", "p_why);"),
        (
            "rows are everybody's",
            "EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);",
            "",
        ),
        ("what was decided before stays", "IF EXISTS (", "IF false AND EXISTS ("),
        ("what is the server's has a policy", "p_access <> 'server only'", "true"),
        ("anybody reads", "FOR SELECT TO authenticated USING", "FOR SELECT USING"),
        ("whoever reads writes", "FOR SELECT TO authenticated USING", "FOR ALL TO authenticated USING"),
        ("own rows are everybody's", "WHEN 'own rows' THEN p_own", "WHEN 'own rows' THEN 'true'"),
    ],
    "access_to_functions": [
        (
            "what was granted on functions stays",
            "EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated', f.signature);",
            "",
        ),
        *(
            (f"what {role} was granted on functions stays", "FROM PUBLIC, anon, authenticated'", f"FROM {others}'")
            for role, others in {
                "everybody": "anon, authenticated",
                "anon": "PUBLIC, authenticated",
                "authenticated": "PUBLIC, anon",
            }.items()
        ),
        ("the server calls what writes", "p.provolatile = 'v' OR p.prosecdef AS writes", "p.prosecdef AS writes"),
        (
            "the server calls what sees more",
            "p.provolatile = 'v' OR p.prosecdef AS writes",
            "p.provolatile = 'v' AS writes",
        ),
        ("the server calls everything", "IF f.writes THEN", "IF false THEN"),
        ("the server calls nothing", "IF f.writes THEN", "IF true THEN"),
        ("call what writes", " AND p.provolatile <> 'v'", ""),
        ("call what sees more", " AND NOT p.prosecdef", ""),
        ("call what is not the ledger's", "p.proname LIKE 'ledger\\_%' AND ", ""),
        ("call nothing", "IF f.reads THEN", "IF false THEN"),
        *(
            (f"functions of {what} are open", "(access|generations?|ledger|prices?)", f"({others})")
            for what, others in {
                "access": "generations?|ledger|prices?",
                "a generation": "access|generations|ledger|prices?",
                "generations": "access|generation|ledger|prices?",
                "the ledger": "access|generations?|prices?",
                "a price": "access|generations?|ledger|prices",
                "prices": "access|generations?|ledger|price",
            }.items()
        ),
    ],
}
