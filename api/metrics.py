"""What the API counts and times; names shared with the worker are in `shared/metrics.py`."""

from prometheus_client import Counter, Histogram

REQUEST_SECONDS = Histogram(
    "twin_http_request_seconds",
    "Time to answer a request; the route's pattern, never its path",
    ["route", "method", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SUBMISSIONS = Counter("twin_submissions", "Submits by what became of them", ["type", "outcome"])
WEBHOOKS = Counter("twin_webhooks", "Webhooks from RunPod by what they were", ["outcome"])
JWKS_FETCHES = Counter("twin_jwks_fetches", "Fetches of the issuer's keys", ["outcome"])
EVENT_STREAMS = Counter("twin_event_streams", "Event streams opened")
