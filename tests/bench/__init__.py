"""`make bench`: how fast it is, beside a bare script that does the same and beside pgbench.

Read `bare.py` for what "the same" means and what it leaves out; `measure.py` is the order of events.
"""
