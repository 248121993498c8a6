"""`make bench-inflight`: thousands of jobs in flight, and how soon their ends are seen.

Read `phases.py`: what is put in flight, what happens to it, and what has to hold. Workers, API, Postgres and Valkey are
the real ones; on the other side is the local RunPod with its documented limits, whose jobs end by plan (`gateway.py`).
"""
