"""Every guard of the ledger, taken away one at a time: `make mutants` names the test that misses it."""
