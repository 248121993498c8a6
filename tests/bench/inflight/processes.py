"""The processes of one flight: RunPod's gateway with its plan, our API, and our workers."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from shared.signing import Signer, parse_secrets
from shared.webhooks import PURPOSE, webhook_url
from tests.bench.ground import Ground
from tests.bench.inflight.gateway import ENDPOINT, Plan, Planned
from tests.bench.inflight.seed import InFlight, InLine, generation_id
from tests.bench.parts import RUNPOD_KEY, Part, answers, environment, running, says, start
from tests.local import leashed, valkey
from tests.local.issuer import ISSUER_URL, Issuer
from worker.settings import MOST_JOBS

_TYPES = ("text", "image", "modify", "video")
_PROFILE = """
[[endpoint]]
name = "{kind}"
type = "{kind}"
endpoint_id = "{endpoint}"
worker = "passthrough"
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every flight stands on; `prepared` is the database that each has a copy of."""

    ground: Ground
    prepared: str
    bell: valkey.Running
    issuer: Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What flies: jobs that run already with the seconds after which they end (None: never), and jobs still to send.

    A worker's claim is its own for `lease` seconds.
    """

    jobs: Sequence[tuple[InFlight, float | None]] = ()
    in_line: Sequence[InLine] = ()
    webhooks: bool
    workers: int = 1
    warm_up: float
    lease: int

    @property
    def ends(self) -> int:
        """How many will be settled."""
        return sum(after is not None for _, after in self.jobs) + len(self.in_line)


@contextmanager
def processes(
    around: Surroundings, folder: Path, course: Course, database_url: str
) -> Iterator[tuple[Part, Part, Sequence[Part]]]:
    """The gateway, the API, and the workers."""
    port, api_port = leashed.free_port(), leashed.free_port()
    url = f"http://127.0.0.1:{api_port}"
    told = environment(folder, database_url=database_url, redis_url=around.bell.url, public_url=url)
    told |= {"PORT": str(api_port), "CLERK_ISSUER": ISSUER_URL, "CLERK_JWT_KEY": around.issuer.public_pem()}
    plan = folder / "plan.json"
    plan.write_bytes(orjson.dumps(asdict(_plan(course, told["TWIN_SECRET"], url))))
    argv = [sys.executable, "-m", "tests.bench.inflight.gateway", str(port), RUNPOD_KEY]
    argv += [str(plan), str(folder / "findings.json")]
    gateway = start(folder, "gateway", argv, answers(f"http://127.0.0.1:{port}/healthz"))
    with running([gateway]):
        api = start(folder, "api", [sys.executable, "-m", "api"], answers(f"{url}/readyz"), told)
        profiles = folder / "endpoints.toml"
        profiles.write_text("\n".join(_PROFILE.format(kind=kind, endpoint=ENDPOINT) for kind in _TYPES))
        worker = {**told, "RUNPOD_API_KEY": RUNPOD_KEY, "RUNPOD_BASE_URL": f"http://127.0.0.1:{port}/v2"}
        worker |= {"TWIN_ENDPOINTS": str(profiles), "TWIN_LEASE_SECONDS": str(course.lease)}
        worker |= {"TWIN_MAX_CONCURRENCY": str(MOST_JOBS)}
        workers = [
            start(folder, name, [sys.executable, "-m", "worker"], says(folder / f"{name}.log", "worker.ready"), worker)
            for name in (f"worker-{number}" for number in range(1, course.workers + 1))
        ]
        with running([api, *workers]):
            yield gateway, api, workers


def _plan(course: Course, secret: str, url: str) -> Plan:
    signer = Signer(parse_secrets(secret), purpose=PURPOSE)
    jobs = [
        Planned(
            job.remote_id,
            webhook_url(signer, url, generation_id(job.number), attempt=1) if course.webhooks else None,
            job.ran_seconds,
            after,
        )
        for job, after in course.jobs
    ]
    return Plan(jobs, course.webhooks)


def kept_waiting(part: Part) -> float:
    """For how many seconds so far it was ready to run and others had the processors."""
    return int(Path(f"/proc/{part.pid}/schedstat").read_text().split()[1]) / 1e9


def peak_mb(part: Part) -> float:
    """The most memory that the process ever had resident, by the kernel."""
    status = Path(f"/proc/{part.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")
