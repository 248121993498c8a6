"""Keeps the parts of the world running: starts them, shows what they say, restarts what dies, stops the lot."""

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from tests.local import leashed
from tests.local.folder import Folder

READY_SECONDS = 60
_KEPT_LINES = 20
_TICK_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 30
_HEALTHY_SECONDS = 60
# make and the terminal may both pass the same Ctrl-C on; only a later one means "now".
_SAME_SIGNAL_SECONDS = 1


class PartFailed(Exception):
    """A part did not become ready; the message says which and carries its last words."""


class StopRequested(Exception):
    """Somebody asked us to stop while we were still starting."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to run. `ready` is asked with its pid; `grace_seconds` is how long its farewell may take.

    What a quiet part says is shown only when it fails.
    """

    name: str
    command: leashed.Command
    ready: Callable[[int], bool]
    grace_seconds: float = 10
    quiet: bool = False


class _Child:
    """One part's current process and what it said last."""

    def __init__(self, part: Part, show: Callable[[str, str], None]) -> None:
        self.part = part
        self.said: deque[str] = deque(maxlen=_KEPT_LINES)
        self.began = time.monotonic()
        self.process = leashed.start(part.command, subprocess.PIPE)
        self._show = show
        self._listener = threading.Thread(target=self._listen, name=f"listen-{part.name}", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self.said.append(line)
                if not self.part.quiet:
                    self._show(self.part.name, line)

    def last_words(self) -> str:
        self._listener.join(timeout=1)
        return "\n".join(f"    {line}" for line in self.said) or "    (it said nothing)"

    def clear_away(self) -> None:
        """End what a dead or dying process may have left in its group."""
        leashed.stop(self.process, self.part.command.farewell, grace_seconds=0)
        self._listener.join(timeout=1)


class Supervisor:
    """Owns the children. `start` and `wait` in any order, then `watch`; always `stop`."""

    def __init__(self, folder: Folder, *, colours: bool) -> None:
        self._folder = folder
        self._colours = colours
        self._children: dict[str, _Child] = {}
        self._asked_at: list[float] = []
        self._asked = threading.Event()
        self._printing = threading.Lock()

    def listen_to_signals(self) -> None:
        """Ctrl-C, SIGTERM and a closed terminal ask for an orderly end; a second time, for an immediate one."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means it
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request_stop()

    def request_stop(self) -> None:
        """Make `wait` and `watch` end; asked again later than a second, make `stop` hurry."""
        now = time.monotonic()
        if not self._asked_at or now - self._asked_at[-1] > _SAME_SIGNAL_SECONDS:
            self._asked_at.append(now)
        self._asked.set()

    def say(self, text: str) -> None:
        """A line of our own."""
        self._show("world", text)

    def proclaim(self, text: str) -> None:
        """Text of our own without the margin, to be copied from."""
        self._print(text)

    def _show(self, name: str, line: str) -> None:
        colour = 31 + sum(map(ord, name)) % 6
        margin = f"\x1b[{colour}m{name:>8} │\x1b[0m" if self._colours else f"{name:>8} |"
        self._print(f"{margin} {line}")

    def _print(self, text: str) -> None:
        with self._printing:
            try:
                print(text, flush=True)
            except (BrokenPipeError, ValueError):
                # Whoever read our output has gone; the world goes on until it is asked to stop.
                sys.stdout = None

    def start(self, *parts: Part) -> None:
        """Start parts without waiting for them."""
        for part in parts:
            self._children[part.name] = child = _Child(part, self._show)
            self._folder.record(part.name, child.process.pid)

    def wait(self, *parts: Part) -> None:
        """Wait until each answers. PartFailed names the one that does not; StopRequested when asked to end."""
        for part in parts:
            child = self._children[part.name]
            deadline = child.began + READY_SECONDS
            while True:
                self._check_not_asked()
                if child.process.poll() is not None:
                    how = _how_it_ended(child.process.returncode)
                    raise PartFailed(f"{part.name} did not start: it {how}. Its last words:\n{child.last_words()}")
                if part.ready(child.process.pid):
                    break
                if time.monotonic() > deadline:
                    raise PartFailed(
                        f"{part.name} did not answer within {READY_SECONDS} s. Its last words:\n{child.last_words()}"
                    )
                time.sleep(_TICK_SECONDS)
            self.say(f"{part.name} is up after {time.monotonic() - child.began:.1f} s")

    def _check_not_asked(self) -> None:
        if self._asked.is_set():
            raise StopRequested

    def watch(self) -> None:
        """Return when asked to stop; until then restart what dies, waiting longer each time it dies young."""
        pauses: dict[str, float] = {}
        due: dict[str, float] = {}
        while not self._asked.wait(_TICK_SECONDS * 2):
            now = time.monotonic()
            for name, child in self._children.items():
                if child.process.poll() is not None and name not in due:
                    lived = now - child.began
                    young = lived < _HEALTHY_SECONDS
                    pauses[name] = min(pauses.get(name, 0.5) * 2, _LONGEST_PAUSE_SECONDS) if young else 1
                    due[name] = now + pauses[name]
                    how = _how_it_ended(child.process.returncode)
                    self.say(f"{name} {how} after {lived:.0f} s; starting it again in {pauses[name]:.0f} s")
                    if child.part.quiet:
                        self.say(f"its last words:\n{child.last_words()}")
                    child.clear_away()
            for name in [name for name, at in due.items() if at <= now]:
                del due[name]
                self.start(self._children[name].part)

    def stop(self, *order: Sequence[str]) -> None:
        """Stop the groups one after the other, and within a group all at once; then whatever was not named."""
        named = {name for group in order for name in group}
        for group in (*order, [name for name in self._children if name not in named]):
            children = [self._children.pop(name) for name in group if name in self._children]
            self._stop_together(children)

    def _stop_together(self, children: list[_Child]) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(child.part.command.farewell)
        for child in children:
            deadline = time.monotonic() + child.part.grace_seconds
            while child.process.poll() is None and time.monotonic() < deadline and len(self._asked_at) < 2:
                time.sleep(_TICK_SECONDS)
            if child.process.poll() is None:
                self.say(f"{child.part.name} is killed" + ("" if len(self._asked_at) > 1 else ": it took too long"))
            child.clear_away()


def _how_it_ended(code: int) -> str:
    return f"exited with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
