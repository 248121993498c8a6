"""Replays the entries in Python, knowing nothing of the SQL functions, and compares what the tables say.

It derives every account, bucket and hold from the entries alone: running balances, the hash chain, and which bucket
gave what to which hold.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from shared.database import Connection

_GENESIS = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# kind -> the legs it may join. Anything else is not a movement of this ledger.
_LEGAL = {
    "grant": {("issued", "available")},
    "reserve": {("available", "held"), ("overdraft", "overdraft_held")},
    # The last two are a late capture.
    "capture": {
        ("held", "revenue"),
        ("overdraft_held", "revenue"),
        ("available", "revenue"),
        ("overdraft", "revenue"),
    },
    "release": {("held", "available"), ("overdraft_held", "overdraft")},
    "lapse": {("held", "available"), ("overdraft_held", "overdraft")},
    "expire": {("available", "expired")},
    "repay": {("available", "overdraft")},
    "adjust": {("issued", "available"), ("available", "reversed")},
    # The second gives back a charge.
    "reverse": {("available", "reversed"), ("revenue", "available")},
}


@dataclass(slots=True)
class Account:
    legs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seq: int = 0
    hash: bytes = _GENESIS

    @property
    def balances(self) -> tuple[int, int, int, int]:
        """posted, held, overdraft_used, overdraft_held."""
        leg = self.legs
        posted = leg["available"] + leg["held"]
        return posted, leg["held"], -leg["overdraft"] - leg["overdraft_held"], leg["overdraft_held"]


@dataclass(slots=True)
class Hold:
    reserved: dict[int | None, int] = field(default_factory=dict)
    seqs: list[int] = field(default_factory=list)
    captured: dict[int | None, int] = field(default_factory=lambda: defaultdict(int))
    returned: dict[int | None, int] = field(default_factory=lambda: defaultdict(int))
    late_captured: int = 0
    given_back: int = 0
    ended_by: set[str] = field(default_factory=set)


class Oracle:
    """What the entries add up to. `problems` are entries that contradict those before them."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = defaultdict(Account)
        self.buckets: dict[int, dict[str, int]] = defaultdict(lambda: {"granted": 0, "available": 0, "held": 0})
        self.holds: dict[UUID, Hold] = defaultdict(Hold)
        self.problems: list[str] = []

    def replay(self, entry: Any) -> None:
        account = self.accounts[entry["user_id"]]
        source, target, amount = entry["from_leg"], entry["to_leg"], entry["amount"]
        if (source, target) not in _LEGAL.get(entry["kind"], ()):
            self._problem(entry, f"{entry['kind']} does not move {source} to {target}")
        if entry["seq"] != account.seq + 1:
            self._problem(entry, f"follows {account.seq}")
        account.seq = entry["seq"]
        account.legs[source] -= amount
        account.legs[target] += amount
        after = tuple(entry[f"{name}_after"] for name in ("posted", "held", "overdraft_used", "overdraft_held"))
        if after != account.balances:
            self._problem(entry, f"says {after} after it, the entries say {account.balances}")
        account.hash = link(account.hash, entry)
        if account.hash != entry["hash"]:
            self._problem(entry, "breaks the hash chain")
        self._bucket(entry)
        self._hold(entry)

    def _bucket(self, entry: Any) -> None:
        if entry["bucket_id"] is None:
            return
        bucket = self.buckets[entry["bucket_id"]]
        if entry["from_leg"] in {"issued", "revenue"}:
            bucket["granted"] += entry["amount"]
        for leg, sign in ((entry["from_leg"], -1), (entry["to_leg"], 1)):
            if leg in {"available", "held"}:
                bucket[leg] += sign * entry["amount"]
        if min(bucket.values()) < 0:
            self._problem(entry, "takes more than its bucket had")

    def _hold(self, entry: Any) -> None:
        if entry["hold_id"] is None:
            return
        hold, bucket_id, amount = self.holds[entry["hold_id"]], entry["bucket_id"], entry["amount"]
        if entry["kind"] == "reserve":
            if bucket_id in hold.reserved:
                self._problem(entry, "takes from one source twice")
            hold.reserved[bucket_id] = amount
            hold.seqs.append(entry["seq"])
        elif entry["from_leg"] in {"available", "overdraft"}:
            hold.late_captured += amount
        elif entry["kind"] == "capture":
            hold.captured[bucket_id] += amount
        elif entry["from_leg"] == "revenue":
            hold.given_back += amount
            if hold.given_back > sum(hold.captured.values()) + hold.late_captured:
                self._problem(entry, "gives back more than was charged")
        else:
            hold.returned[bucket_id] += amount
            hold.ended_by.add(entry["kind"])
        if hold.captured[bucket_id] + hold.returned[bucket_id] > hold.reserved.get(bucket_id, 0):
            self._problem(entry, "gives back or charges more than the hold took there")

    def _problem(self, entry: Any, what: str) -> None:
        self.problems.append(f"entry {entry['user_id']}/{entry['seq']}: {what}")


def link(previous: bytes, entry: Any) -> bytes:
    """The hash of an entry that follows `previous`."""
    row = [
        entry["user_id"],
        entry["seq"],
        str(entry["txn_id"]),
        entry["kind"],
        entry["from_leg"],
        entry["to_leg"],
        entry["amount"],
        entry["bucket_id"],
        None if entry["hold_id"] is None else str(entry["hold_id"]),
        entry["actor"],
        entry["posted_after"],
        entry["held_after"],
        entry["overdraft_used_after"],
        entry["overdraft_held_after"],
        (entry["at"] - _EPOCH) // _MICROSECOND,
    ]
    if entry["detail"] is not None:
        row.append(entry["detail"])
    text = json.dumps(row, ensure_ascii=False)
    return sha256(previous + text.encode()).digest()


async def disagreements(connection: Connection) -> list[str]:
    """Replay everything there is; name each account, bucket and hold whose row says otherwise."""
    oracle = Oracle()
    for entry in await connection.fetch("SELECT * FROM credit_entries ORDER BY user_id, seq"):
        oracle.replay(entry)
    return [
        *oracle.problems,
        *await _accounts(connection, oracle),
        *await _buckets(connection, oracle),
        *await _holds(connection, oracle),
    ]


async def _accounts(connection: Connection, oracle: Oracle) -> list[str]:
    rows = await connection.fetch(
        "SELECT user_id, posted, held, overdraft_used, overdraft_held, seq, head_hash FROM user_billing"
    )
    said = {row[0]: tuple(row)[1:] for row in rows}
    replayed = {user: (*a.balances, a.seq, a.hash) for user, a in oracle.accounts.items()}
    return _compare("account", said, replayed, untouched=(0, 0, 0, 0, 0, _GENESIS))


async def _buckets(connection: Connection, oracle: Oracle) -> list[str]:
    rows = await connection.fetch("SELECT bucket_id, granted, remaining, held FROM credit_buckets")
    said = {row[0]: tuple(row)[1:] for row in rows}
    replayed = {bucket: (b["granted"], b["available"], b["held"]) for bucket, b in oracle.buckets.items()}
    return _compare("bucket", said, replayed)


async def _holds(connection: Connection, oracle: Oracle) -> list[str]:
    rows = await connection.fetch(
        "SELECT hold_id, state, quoted, captured, released, late_captured, first_seq, last_seq FROM credit_holds"
    )
    said = {row["hold_id"]: (row["state"], *tuple(row)[2:]) for row in rows if row["quoted"] > 0}
    replayed = {
        hold_id: (
            _state(hold),
            sum(hold.reserved.values()),
            sum(hold.captured.values()),
            sum(hold.returned.values()),
            hold.late_captured,
            min(hold.seqs),
            max(hold.seqs),
        )
        for hold_id, hold in oracle.holds.items()
    }
    torn = [
        f"hold {hold_id}: it took {hold.reserved}, charged {dict(hold.captured)} and gave back {dict(hold.returned)}"
        for hold_id, hold in oracle.holds.items()
        if any(hold.captured.values()) or hold.ended_by
        if any(hold.captured[b] + hold.returned[b] != took for b, took in hold.reserved.items())
    ]
    return torn + _compare("hold", said, replayed)


def _state(hold: Hold) -> str:
    if "lapse" in hold.ended_by:
        return "expired"
    # A capture of nothing leaves the same entries as a release: the row alone knows which it was.
    if any(hold.captured.values()):
        return "captured"
    return "released" if hold.ended_by else "open"


def _compare(what: str, said: dict[Any, Any], replayed: dict[Any, Any], untouched: Any = None) -> list[str]:
    return [
        f"{what} {key}: the row says {said.get(key)}, the entries say {replayed.get(key, untouched)}"
        for key in said.keys() | replayed.keys()
        if said.get(key) != replayed.get(key, untouched) and not _captured_nothing(said.get(key), replayed.get(key))
    ]


def _captured_nothing(said: Any, replayed: Any) -> bool:
    return bool(said and replayed and said[0] == "captured" and replayed[0] == "released" and said[1:] == replayed[1:])
