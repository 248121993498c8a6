"""Word of changes for whoever waits in this process: one subscription to Redis, many listeners.

A listener is only ever woken; what changed it reads in Postgres. It also wakes by itself every second or so, so that
Redis may be away: word then comes a second late, and no later.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import orjson
import structlog
from arq.connections import ArqRedis

from api.errors import TooManyStreams
from shared.events import channel
from shared.queue import REDIS_FAILURES

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
RECONNECT_SECONDS = 1.0
LISTENERS_PER_PERSON = 20


class Listener:
    """One who waits for word about a person's generations."""

    def __init__(self) -> None:
        """Start unheard."""
        self._word = asyncio.Event()

    @property
    def heard(self) -> bool:
        """Whether word came since the last wait."""
        return self._word.is_set()

    def wake(self) -> None:
        """Say that something changed."""
        self._word.set()

    async def wait(self, seconds: float = LOOK_SECONDS) -> None:
        """Return on word, or after `seconds` without; word that came since the last wait counts."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._word.wait()
        self._word.clear()


class Hub:
    """Hands word from Redis to the listeners of this process."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._listeners: dict[str, set[Listener]] = {}
        self.closing = False

    def close(self) -> None:
        """Tell whoever waits to come back later: this process is about to end. Safe in a signal handler."""
        self.closing = True

    def has_room(self, user_id: str) -> bool:
        """Whether this person holds fewer than `LISTENERS_PER_PERSON` listeners in this process."""
        return len(self._listeners.get(user_id, ())) < LISTENERS_PER_PERSON

    def expect_room(self, user_id: str) -> None:
        """Refuse one stream too many, while a status can still be sent. It has its room only when it listens.

        Raises:
            TooManyStreams: this person holds as many as one may.
        """
        if not self.has_room(user_id):
            raise TooManyStreams(f"At most {LISTENERS_PER_PERSON} streams or waits may be open at once.")

    @contextlib.contextmanager
    def listen(self, user_id: str) -> Iterator[Listener]:
        """Hear about this person's generations; start listening before looking, so that nothing is missed.

        Enter it inside the stream's generator: one that is never started is never closed either.
        """
        mine = self._listeners.setdefault(user_id, set())
        listener = Listener()
        mine.add(listener)
        try:
            yield listener
        finally:
            mine.discard(listener)
            if not mine and self._listeners.get(user_id) is mine:
                del self._listeners[user_id]

    def tell(self, user_id: str) -> None:
        """Wake everybody who listens for this person."""
        for listener in self._listeners.get(user_id, ()):
            listener.wake()

    def tell_all(self) -> None:
        """Wake everybody: word may have been lost."""
        for user_id in self._listeners:
            self.tell(user_id)

    async def subscribe(self, queue: ArqRedis) -> None:
        """Pass on what Redis says, reconnecting for ever; runs until cancelled."""
        while True:
            try:
                await self._relay(queue)
            except REDIS_FAILURES as error:
                log.debug("events.disconnected", error=type(error).__name__)
            except Exception:  # whatever it is, pages go on by looking for themselves, and this loop by trying again
                log.exception("events.failed")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _relay(self, queue: ArqRedis) -> None:
        async with queue.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(channel(queue))
            self.tell_all()
            while True:
                message = await subscription.get_message(timeout=LOOK_SECONDS)
                if message is not None:
                    self.hear(message["data"])

    def hear(self, data: bytes) -> None:
        """Pass on one message of the channel; a garbled one wakes nobody."""
        try:
            people = {news["user_id"] for news in orjson.loads(data)}
        except (ValueError, TypeError, KeyError):
            log.warning("events.garbled")
            return
        for user_id in people:
            self.tell(user_id)
