"""One Storage over a folder and over a real S3 server: what holds for one holds for the other."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import obstore
import pytest
from obstore.store import from_url

from shared.errors import ConfigurationRefused, InvalidToken, NotFound, StorageUnavailable
from shared.settings import Settings
from shared.storage import Storage, open_storage
from tests.local import bucket

PICTURE = b"\x89PNG" + bytes(range(256)) * 4
LARGE = bytes(11 * 1024 * 1024)


def settings(storage_url: str, **changes: Any) -> Settings:
    given = {
        "mode": "local",
        "database_url": "postgresql://127.0.0.1/none",
        "redis_url": "redis://127.0.0.1",
        "secret": "k1:" + base64.b64encode(b"x" * 32).decode(),
        "public_url": "https://twin.example.com",
        "storage_url": storage_url,
    }
    return Settings.model_validate({**given, **changes})


@pytest.fixture(scope="module")
def s3() -> Iterator[bucket.Bucket]:
    with bucket.running() as running:
        yield running


@pytest.fixture
def s3_storage(s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return open_storage(settings(s3.url))


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3_storage")
        return found
    return open_storage(settings((tmp_path / "media").as_uri()))


async def kept(storage: Storage, generation_id: UUID, content: bytes = PICTURE) -> str:
    key = storage.key(generation_id, content=content, extension="png")
    await storage.put(key, content)
    return key


@pytest.mark.parametrize("content", [PICTURE, LARGE], ids=["small", "large"])
async def test_what_is_put_is_there(storage: Storage, content: bytes) -> None:
    key = await kept(storage, uuid4(), content)
    assert await storage.size(key) == len(content)
    assert await storage.read(key) == content
    await storage.put(key, content)
    assert await storage.read(key) == content, "putting it again changes nothing"


async def test_some_of_its_bytes(storage: Storage) -> None:
    key = await kept(storage, uuid4())
    part = await storage.open(key, span=range(4, 260))
    assert part.size == 256
    assert b"".join([chunk async for chunk in part.chunks]) == PICTURE[4:260]


async def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    key = storage.key(uuid4(), content=b"never put", extension="png")
    with pytest.raises(NotFound):
        await storage.size(key)
    with pytest.raises(NotFound):
        await storage.open(key)
    with pytest.raises(NotFound):
        await storage.read(key)


def test_an_address_shows_its_output_until_it_has_run_out(tmp_path: Path) -> None:
    given = settings((tmp_path / "media").as_uri())
    storage = open_storage(given)
    before = time.time()
    token = storage.sign({"key": "generations/x/y.png", "media_type": "image/png"}).rpartition("/")[2]
    expires = int(given.signer("media").verify(token).partition(b" ")[0])
    assert before + 24 * 3600 < expires < time.time() + 25 * 3600 + 1
    for moment in (expires - 1, expires):
        assert storage.verify(token, at=moment) == ("generations/x/y.png", "image/png")
    with pytest.raises(InvalidToken, match="has expired"):
        storage.verify(token, at=expires + 1)


async def test_deleting_takes_all_of_one_generation_and_nothing_else(storage: Storage) -> None:
    one, other = uuid4(), uuid4()
    keys = [await kept(storage, one), await kept(storage, one, b"second")]
    spared = await kept(storage, other)
    assert await storage.delete(one) == 2
    for key in keys:
        with pytest.raises(NotFound):
            await storage.size(key)
    assert await storage.read(spared) == PICTURE
    assert await storage.delete(one) == 0, "deleting again is no error"


async def test_deleting_takes_what_a_killed_worker_had_half_written(tmp_path: Path) -> None:
    """It stands beside its place under a number until it is whole, and no list shows it."""
    storage, generation_id = open_storage(settings(tmp_path.as_uri())), uuid4()
    key = await kept(storage, generation_id)
    (tmp_path / f"{key}#1").write_bytes(PICTURE[:10])
    await storage.delete(generation_id)
    assert not (tmp_path / key).parent.exists()
    await storage.delete(generation_id)


async def test_a_large_output_is_put_in_one_request(s3: bucket.Bucket, s3_storage: Storage) -> None:
    """Parts of one whose worker died would stay in the bucket, paid for and listed nowhere, whatever is deleted."""
    key = await kept(s3_storage, uuid4(), bytes(12 << 20))
    store = from_url(s3.url, client_options={"allow_http": True})
    found = await obstore.head_async(store, key)
    assert (found["size"], "-" in (found["e_tag"] or "-")) == (12 << 20, False), "parts would be counted in the tag"


async def test_a_bucket_that_is_away_is_unavailable_and_has_lost_nothing(
    s3: bucket.Bucket, s3_storage: Storage
) -> None:
    generation_id = uuid4()
    key = await kept(s3_storage, generation_id)
    s3.stop()
    try:
        for asking in (
            s3_storage.put(key, PICTURE),
            s3_storage.size(key),
            s3_storage.open(key),
            s3_storage.delete(generation_id),
        ):
            with pytest.raises(StorageUnavailable):
                await asking
    finally:
        s3.start()
    assert await s3_storage.read(key) == PICTURE


async def test_wrong_keys_are_not_a_missing_output(s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is not there, as one that we may not read: nobody is told that their output is gone."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    elsewhere = open_storage(settings("s3://not-ours/outputs"))
    with pytest.raises(StorageUnavailable):
        await elsewhere.put("generations/x/y.png", PICTURE)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_production_refuses_to_send_outputs_in_the_clear(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://10.0.0.7:9000")
    with pytest.raises(ConfigurationRefused, match=variable):
        open_storage(settings("s3://twin/outputs", mode="production"))
    monkeypatch.setenv(variable, "http://127.0.0.1:9000")
    open_storage(settings("s3://twin/outputs", mode="production"))


def test_production_refuses_a_plain_http_store() -> None:
    with pytest.raises(ConfigurationRefused, match="STORAGE_URL"):
        open_storage(settings("http://files.example.com/outputs", mode="production"))


@pytest.mark.parametrize("url", ["nonsense", "ftp://files.example.com/outputs"])
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationRefused, match="STORAGE_URL"):
        open_storage(settings(url))
