"""What both processes count and time. Names as ops read them; unknown is absent, never 0."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200)

RUNPOD_REQUESTS = Counter("twin_runpod_requests", "Requests to RunPod by outcome", ["endpoint", "operation", "outcome"])
EXPECTED_COST_USD = Counter(
    "twin_runpod_expected_cost_usd", "What the jobs that RunPod accepted are expected to cost us", ["endpoint"]
)
TRANSITIONS = Counter("twin_transitions", "Changes of state of generations", ["state"])
WAIT_SECONDS = Histogram("twin_generation_wait_seconds", "From accepted here to accepted by RunPod", buckets=_SECONDS)
RUN_SECONDS = Histogram("twin_generation_run_seconds", "RunPod's own execution time", ["endpoint"], buckets=_SECONDS)
ESTIMATE_ERROR_RATIO = Histogram(
    "twin_estimate_error_ratio",
    "From accepted to completed, over what half of such were told to take at most; 1: as long as was told",
    ["endpoint"],
    buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10),
)
SETTLE_LAG_SECONDS = Histogram("twin_settle_lag_seconds", "From RunPod's terminal answer to settled", buckets=_SECONDS)
SWEEP_ACTIONS = Counter("twin_sweep_actions", "What the sweep put right", ["action"])
LOOP_FAILURES = Counter("twin_loop_failures", "Rounds of a worker loop that raised", ["loop"])
AUDIT_FAILURES = Gauge("twin_audit_failures", "Rows that an audit should not have found", ["audit"])
CREDITS = Counter("twin_credits", "Credits moved by settlement", ["kind"])
VERIFIED_ENTRIES = Counter("twin_ledger_verified_entries", "Entries that scheduled verifications read", ["scope"])
OUTPUTS_UNKEPT = Counter("twin_outputs_unkept", "Outputs delivered by the model's own address, not copied")
