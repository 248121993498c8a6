"""Every guard of the ledger and what it leans on, taken away one at a time: `make mutants` names who misses it."""
