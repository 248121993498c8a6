"""How fair the lines are, and what being fair costs a claim: our own statements on a real Postgres."""
