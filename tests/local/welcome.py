"""What `make run` says once everything answers."""

from pathlib import Path

from tests.local.seed import DEMO_CREDITS, DEMO_USER

_SIGN_IN = """
Sign in   one click on the page, as {user} with {credits} credits; or from a terminal:

  TOKEN=$(curl -s {url}/v1/dev/sessions -H 'content-type: application/json' \\
    -d '{{"user_id": "{user}"}}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
  curl -s {url}/v1/generations -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
    -H "idempotency-key: $(date +%s)" -d '{{"type": "image", "prompt": "a lighthouse at dusk", "batch_size": 2}}'
  curl -s {url}/v1/credits -H "authorization: Bearer $TOKEN"
"""


def welcome(url: str, data: Path, *, sign_in: bool) -> str:
    """The text; its last line begins with `ready <url>`. `sign_in` says whether the demo person can."""
    how = _SIGN_IN.format(url=url, user=DEMO_USER, credits=DEMO_CREDITS) if sign_in else "\n"
    return f"\nPage      {url}/\nData      {data}{how}\nready {url} (Ctrl-C stops everything)\n"
