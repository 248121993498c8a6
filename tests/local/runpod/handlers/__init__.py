"""Sample handlers: each file is a real RunPod handler that makes something worth looking at, on a CPU.

Words in square brackets in a prompt order trouble: `[fail]` raises, `[partial]` delivers one item fewer than asked and
says so in `errors`, `[slow]` works for sixteen paces (8 s) and reports progress, `[soft-error]` hides an error in a
COMPLETED output. TWIN_HANDLER_PACE_SECONDS (0.5) is how long an ordinary job stays visible; 0 in tests.
"""
