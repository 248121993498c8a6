"""Where outputs are kept: a folder or a bucket, by URL, through obstore; and the signed addresses that show them."""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from shared.errors import ConfigurationRefused, InvalidToken, NotFound, StorageUnavailable
from shared.settings import Settings
from shared.signing import Signer

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

URL_LIFETIME = timedelta(hours=24)
_URL_ROUNDING_SECONDS = 3600  # so that an address stays the same for an hour and browsers can cache it
_CHUNK_BYTES = 256 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A bucket that is away is told so soon: whoever waits for it tries again by itself, from Postgres.
_CLIENT: "ClientConfig" = {"timeout": "60s", "connect_timeout": "5s"}
_RETRIES: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, or a span of one, that is being read: how many bytes, and the bytes chunk by chunk."""

    size: int
    chunks: AsyncIterator[bytes]


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise NotFound("This output is not in storage.") from error
    except (BaseError, OSError) as error:
        raise StorageUnavailable("Outputs cannot be read just now.") from error


def _folder(generation_id: UUID) -> str:
    return f"generations/{generation_id}"


def _remove(folder: Path) -> None:
    """A folder with what no list shows: what somebody had half written when they were killed."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


class Storage:
    """The outputs of this deployment."""

    def __init__(self, store: ObjectStore, *, signer: Signer, public_url: str) -> None:
        """Keep objects in `store`; sign addresses under `public_url`."""
        self._store = store
        self._signer = signer
        self._public_url = public_url

    @staticmethod
    def key(generation_id: UUID, *, content: bytes, extension: str) -> str:
        """Where an output lives: named for its content, so that nothing is ever replaced by something else."""
        return f"{_folder(generation_id)}/{hashlib.sha256(content).hexdigest()[:32]}.{extension}"

    @staticmethod
    def generation_of(key: str) -> UUID:
        """Whose output lives there.

        Raises:
            NotFound: nobody's.
        """
        parts = key.split("/")
        try:
            return UUID(parts[1])
        except (IndexError, ValueError) as error:
            raise NotFound("This output is not in storage.") from error

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing what was there.

        Raises:
            StorageUnavailable: the store cannot be written just now.
        """
        try:
            # in one request: parts of one that was broken off would stay in a bucket, and no list shows them
            await obstore.put_async(self._store, key, content, use_multipart=False)
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"An output could not be stored: {type(error).__name__}.") from error

    async def size(self, key: str) -> int:
        """How many bytes an object has.

        Raises:
            NotFound: there is none under this key.
            StorageUnavailable: the store cannot be read just now.
        """
        with _reading():
            return (await obstore.head_async(self._store, key))["size"]

    async def open(self, key: str, *, span: range | None = None) -> StoredObject:
        """Read an object, or those of its bytes that `span` names; it must lie inside the object.

        Raises:
            NotFound: there is none under this key.
            StorageUnavailable: the store cannot be read just now.
        """
        options: GetOptions = {} if span is None else {"range": (span.start, span.stop)}
        with _reading():
            result = await obstore.get_async(self._store, key, options=options)

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

        first, end = result.range
        return StoredObject(size=end - first, chunks=chunks())

    async def delete(self, generation_id: UUID) -> int:
        """Delete everything of a generation, also what no row names; returns how many objects that were.

        Raises:
            StorageUnavailable: some may be left; nothing is lost by deleting again.
        """
        deleted = 0
        try:
            async for found in obstore.list(self._store, _folder(generation_id)):
                for each in found:
                    with suppress(NotFoundError, FileNotFoundError):  # somebody else is at it, too
                        await obstore.delete_async(self._store, each["path"])
                    deleted += 1
            if isinstance(self._store, LocalStore) and self._store.prefix is not None:
                await asyncio.to_thread(_remove, Path(self._store.prefix) / _folder(generation_id))
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"Outputs could not be deleted: {type(error).__name__}.") from error
        return deleted

    async def read(self, key: str) -> bytes:
        """A whole object; outputs are bounded in size by the worker that wrote them."""
        return b"".join([chunk async for chunk in (await self.open(key)).chunks])

    def sign(self, output: Mapping[str, Any]) -> str:
        """An address that shows this output to whoever holds it, for a day or a little more."""
        rounded = (int(time.time()) // _URL_ROUNDING_SECONDS + 1) * _URL_ROUNDING_SECONDS
        expires = rounded + int(URL_LIFETIME.total_seconds())
        payload = f"{expires} {output['media_type']} {output['key']}"
        return f"{self._public_url}/v1/media/{self._signer.sign(payload.encode())}"

    def verify(self, token: str, *, at: float | None = None) -> tuple[str, str]:
        """The key and media type that a signed address names.

        Raises:
            InvalidToken: forged, malformed or expired.
        """
        expires, media_type, key = self._signer.verify(token).decode().split(" ", 2)
        if int(expires) < (time.time() if at is None else at):
            raise InvalidToken("This address has expired; ask for the generation again to get a new one.")
        return key, media_type


def open_storage(settings: Settings) -> Storage:
    """Build the storage that `STORAGE_URL` names; a local folder is made when missing.

    A bucket's region, endpoint and keys are read by obstore from the environment, under their usual names (`AWS_…`);
    whether plain http is allowed is for us to say, so AWS_ALLOW_HTTP does not count.

    Raises:
        ConfigurationRefused: the URL is not one that obstore knows, the folder cannot be made, or what is kept would
            travel in the clear.
    """
    url = urlsplit(settings.storage_url)
    plain = _plain_http(settings.storage_url)
    if settings.mode == "production":
        for name, host in plain.items():
            if host not in _LOOPBACK:
                raise ConfigurationRefused(f"{name} must be https:// in production (plain http only on this machine).")
    try:
        if url.scheme == "file":
            folder = Path(unquote(url.path))
            folder.mkdir(parents=True, exist_ok=True)
            store: ObjectStore = LocalStore(folder)
        else:
            client: ClientConfig = {**_CLIENT, "allow_http": bool(plain)}
            store = from_url(settings.storage_url, client_options=client, retry_config=_RETRIES)
    except Exception as error:  # obstore and the file system fail in many ways; each is a bad STORAGE_URL
        raise ConfigurationRefused(f"STORAGE_URL cannot be used: {error}") from error
    return Storage(store, signer=settings.signer("media"), public_url=settings.public_url)


def _plain_http(storage_url: str) -> dict[str, str | None]:
    """The variables that lead to the store unencrypted, with the host that each names."""
    places = {"STORAGE_URL": storage_url}
    if urlsplit(storage_url).scheme in ("s3", "s3a"):
        places |= {name: value for name, value in os.environ.items() if name.upper().startswith("AWS_ENDPOINT")}
    parts = {name: urlsplit(place) for name, place in places.items()}
    return {name: part.hostname for name, part in parts.items() if part.scheme.lower() == "http"}
