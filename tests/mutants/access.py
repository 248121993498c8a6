"""Mutants of who may do what: what a migration's decision takes back, and what it gives."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "access_to_table": [
        ("any word is a decision", "p_access NOT IN ('own rows', 'everybody signed in', 'server only')", "false"),
        (
            "rows are everybody's",
            "EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);",
            "",
        ),
        ("what was granted stays", "EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated', p_table);", ""),
        *(
            (f"what {role} was granted stays", f"'REVOKE ALL ON %s FROM {all_}'", f"'REVOKE ALL ON %s FROM {others}'")
            for all_ in ["PUBLIC, anon, authenticated"]
            for role, others in {
                "everybody": "anon, authenticated",
                "anon": "PUBLIC, authenticated",
                "authenticated": "PUBLIC, anon",
            }.items()
        ),
        ("what was granted on its sequences stays", "d.refobjid = p_table", "false"),
        ("its own sequences are not its", "d.deptype IN ('a', 'i')", "d.deptype = 'a'"),
        ("what was decided before stays", "IF EXISTS (", "IF false AND EXISTS ("),
        ("what is the server's can be read", "p_access <> 'server only'", "true"),
        ("nothing is withheld", "p_withheld <> '{}'", "false"),
        ("what is withheld is read", "a.attname <> ALL (p_withheld)", "true"),
        ("anybody reads", "FOR SELECT TO authenticated USING", "FOR SELECT USING"),
        ("whoever reads writes", "FOR SELECT TO authenticated USING", "FOR ALL TO authenticated USING"),
        ("own rows are everybody's", "WHEN 'own rows' THEN p_own", "WHEN 'own rows' THEN 'true'"),
        ("a decision is not told", "'COMMENT ON TABLE %s IS %L'", "'COMMENT ON TABLE %s IS NULL -- %L'"),
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
