"""`make bench-ledger`: what the money does per second, beside pgbench on the same functions and beside pgledger.

A *cycle* is one reserve and the capture of all of it, each committed and flushed. `measure.py` is the order of events.
"""
