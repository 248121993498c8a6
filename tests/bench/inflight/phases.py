"""What is put in flight, what happens to it, and what has to hold.

- webhooks: all in flight on one worker; some end, and their webhooks say so.
- room: jobs of 2 s and more are sent and end, and no webhook ever comes; the status limit leaves room.
- limit: all in flight on one worker, no webhooks. RunPod takes `LIMIT_PER_SECOND` status calls a second of an endpoint,
  so with N in flight each can be asked once in N / LIMIT_PER_SECOND seconds, its round. Somebody who asks them in turn,
  as often as RunPod allows, is late by anything from nothing to one round, evenly: p95 is 0.95 of a round.
- kill: as webhooks, on two workers, one of which is killed in the middle, with something in its hands.

"Seen" is when the transaction commits that writes `finishing` with RunPod's answer; "settled" the one that charges.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.bench.figures import percentile
from tests.bench.inflight.flight import Flown, TakeOver, fly, kill_one
from tests.bench.inflight.options import Options
from tests.bench.inflight.processes import Course, Surroundings
from tests.bench.inflight.seed import InFlight, InLine
from tests.local.runpod.limits import WINDOW_SECONDS
from tests.local.runpod.rules import DOCUMENTED_LIMITS

LIMIT_PER_TEN_SECONDS = DOCUMENTED_LIMITS["status"].per_ten_seconds or 0
LIMIT_PER_SECOND = LIMIT_PER_TEN_SECONDS / WINDOW_SECONDS
MOST_MB = 250
SEEN_AFTER_WEBHOOK_SECONDS = 0.25
SHORTEST_TOLERANCE_SECONDS = 2
TOLERANCE = 0.15
OF_THE_FORCED_DELAY = 1.5
LOOK_SECONDS = 1
"""From the end of a killed worker's leases until that is seen."""
_START_SECONDS = 4
_SHORTEST_RUN_SECONDS = 2
_LONGEST_RAN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something that is wanted, and what was measured."""

    words: str
    measured: float
    wanted: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether it is so."""
        return self.measured <= self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one phase came to; `late_seconds` is p50, p95 and the worst from what the phase starts its watch at."""

    name: str
    words: str
    in_flight: int
    ended: int
    seconds: float
    late_seconds: tuple[float, float, float]
    settled_seconds: tuple[float, float, float]
    status_calls: int
    most_in_ten_seconds: int
    refused: int
    peak_mb: Sequence[float]
    seen_by: Sequence[int]
    cpu: Mapping[str, float] | None
    kept_waiting: float
    broken: Sequence[str]
    took_over: TakeOver | None
    verdicts: Sequence[Verdict]


def webhooks(around: Surroundings, options: Options) -> Phase:
    """(a) Webhooks come."""
    flown = fly(around, _crowd(options, rate=options.rate, seconds=options.seconds, webhooks=True))
    told = flown.findings.told
    late = [max(0.0, flown.seen[job] - at) for job, at in told.items()]
    settled = [max(0.0, flown.settled[job] - at) for job, at in told.items()]
    return _phase("webhooks", "webhooks come", flown, late, settled, [*_always(flown), _memory(flown), _soon(late)])


def room(around: Surroundings, options: Options) -> Phase:
    """(b) No webhooks; the status limit leaves room."""
    dice = random.Random(20261126)
    spread = options.longest_run / _SHORTEST_RUN_SECONDS
    in_line = [
        InLine(_START_SECONDS + number * options.longest_run / options.arrivals, 2 * spread ** dice.random())
        for number in range(options.arrivals)
    ]
    flown = fly(around, Course(in_line=in_line, webhooks=False, warm_up=options.warm_up, lease=options.lease))
    late, settled = _after_their_ends(flown)
    ran = flown.findings.ran_seconds
    shares = [
        (flown.seen[job] - at) / max(SHORTEST_TOLERANCE_SECONDS, TOLERANCE * ran[job])
        for job, at in flown.findings.ended.items()
    ]
    soon = Verdict("late by this share of max(2 s, 15 % of the run), p95", percentile(shares, 0.95), 1.0, "")
    return _phase("room", "no webhooks, room", flown, late, settled, [*_always(flown), soon])


def limit(around: Surroundings, options: Options) -> Phase:
    """(c) No webhooks; the status limit is what delays."""
    course = _crowd(options, rate=options.limited_rate, seconds=options.limited_seconds, webhooks=False)
    flown = fly(around, course)
    late, settled = _after_their_ends(flown)
    # so many were in flight in the middle of it
    round_seconds = (flown.in_flight - course.ends / 2) / LIMIT_PER_SECOND
    wanted = max(SHORTEST_TOLERANCE_SECONDS, OF_THE_FORCED_DELAY * 0.95 * round_seconds)
    words = f"late, p95; a round takes {round_seconds:.1f} s, 0.95 of it is forced, 1.5 times that allowed"
    seen = Verdict(words, percentile(late, 0.95), wanted, "s")
    return _phase("limit", "no webhooks, limit short", flown, late, settled, [*_always(flown), _memory(flown), seen])


def kill(around: Surroundings, options: Options) -> Phase:
    """(d) Two workers, one of which is killed."""
    course = _crowd(options, rate=options.rate, seconds=options.seconds, webhooks=True, workers=2)
    flown = fly(around, course, meanwhile=partial(kill_one, after_seconds=options.seconds / 3))
    told = flown.findings.told
    late = [max(0.0, flown.seen[job] - at) for job, at in told.items()]
    settled = [max(0.0, flown.settled[job] - at) for job, at in told.items()]
    lost = Verdict("ends that were lost", course.ends - len(flown.settled), 0, "")
    again = Verdict("jobs sent to RunPod again", flown.findings.runs, 0, "")
    verdicts = [*_always(flown), _memory(flown), _soon(late), lost, again, *taken_over(flown.took_over, options.lease)]
    return _phase("kill", "two workers, one killed", flown, late, settled, verdicts)


def taken_over(took_over: TakeOver | None, lease: int) -> list[Verdict]:
    """A worker that was killed with nothing in its hands left nothing to take over, so nothing was shown."""
    leased, seconds = (0, float("inf")) if took_over is None else (took_over.leased, took_over.seconds)
    return [
        Verdict("workers killed with nothing in their hands", int(not leased), 0, ""),
        Verdict("until its leases were over", seconds, lease + LOOK_SECONDS, "s"),
    ]


def _crowd(options: Options, *, rate: int, seconds: int, webhooks: bool, workers: int = 1) -> Course:
    """All that fly; those that end do so evenly over the time. They are asked about in turn, as in mid-flight."""
    dice = random.Random(20261126)
    round_seconds = options.in_flight / LIMIT_PER_SECOND
    jobs = [
        InFlight(
            number,
            dice.uniform(0, _LONGEST_RAN_SECONDS),
            _START_SECONDS + dice.uniform(0, round_seconds),
        )
        for number in range(options.in_flight)
    ]
    ends = min(rate * seconds, options.in_flight)
    moments: list[float | None] = [seconds * number / ends for number in range(ends)]
    return Course(
        jobs=list(zip(jobs, moments + [None] * (options.in_flight - ends), strict=True)),
        webhooks=webhooks,
        workers=workers,
        warm_up=options.warm_up,
        lease=options.lease,
    )


def _after_their_ends(flown: Flown) -> tuple[list[float], list[float]]:
    ended = flown.findings.ended
    return [flown.seen[job] - at for job, at in ended.items()], [flown.settled[job] - at for job, at in ended.items()]


def _soon(late: Sequence[float]) -> Verdict:
    return Verdict("webhook sent to its end seen, p95", percentile(late, 0.95), SEEN_AFTER_WEBHOOK_SECONDS, "s")


def _memory(flown: Flown) -> Verdict:
    return Verdict("memory of the worker at its peak", max(flown.peak_mb), MOST_MB, "MB")


def _always(flown: Flown) -> list[Verdict]:
    most = Verdict("status calls in any 10 s", _most_in_a_window(flown.findings.asked), LIMIT_PER_TEN_SECONDS, "")
    return [most, Verdict("truths that do not hold (audits, ends, charges)", len(flown.broken), 0, "")]


def _most_in_a_window(moments: Sequence[float]) -> int:
    ordered, most, first = sorted(moments), 0, 0
    for number, moment in enumerate(ordered):
        while ordered[first] <= moment - WINDOW_SECONDS:
            first += 1
        most = max(most, number - first + 1)
    return most


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return percentile(values, 0.5), percentile(values, 0.95), max(values)


def _phase(
    name: str, words: str, flown: Flown, late: Sequence[float], settled: Sequence[float], verdicts: Sequence[Verdict]
) -> Phase:
    seconds = flown.ended_at - flown.began_at
    used = flown.cpu_seconds
    return Phase(
        name=name,
        words=words,
        in_flight=flown.in_flight,
        ended=len(flown.settled),
        seconds=seconds,
        late_seconds=_spread(late),
        settled_seconds=_spread(settled),
        status_calls=sum(flown.began_at <= moment < flown.ended_at for moment in flown.findings.asked),
        most_in_ten_seconds=_most_in_a_window(flown.findings.asked),
        refused=flown.findings.refused,
        peak_mb=flown.peak_mb,
        seen_by=flown.seen_by,
        cpu=None if used is None else {who: each / seconds for who, each in used.items()},
        kept_waiting=flown.kept_waiting_seconds / seconds,
        broken=flown.broken,
        took_over=flown.took_over,
        verdicts=verdicts,
    )
