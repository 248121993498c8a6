"""What a verification of the ledger may find, and what each means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEANINGS: Mapping[str, str] = {
    "entry-missing": "Entries are missing here: they were deleted, or never written.",
    "entry-changed": "The entry does not fit its hash: it, or the link before it, was changed after it was written.",
    "entry-unbalanced": "The balances after this entry are not those before it plus what it moves.",
    "entry-unlawful": "No operation of this ledger moves credits this way.",
    "entry-unanswered": "No operation answers for the transaction that begins with this entry: nobody asked for it.",
    "account-missing": "There are rows of this account, and the account is gone.",
    "account-differs": "The account does not stand where its entries end.",
    "account-daily": "The account remembers another day than the last one it was given credits for.",
    "account-terms": "The account's terms are not those that were last set.",
    "account-warned": "The account was told other warnings than it remembers.",
    "bucket-missing": "Entries move credits of this bucket, and the bucket is gone.",
    "bucket-unfounded": "No entry put credits into this bucket: nobody granted them.",
    "bucket-differs": "The bucket does not hold what its entries leave in it.",
    "bucket-terms": "The bucket's terms are not those it was granted on.",
    "bucket-forgotten": "The bucket will run out and the sweep will not look in time.",
    "bucket-expired-early": "Credits of this bucket were taken as expired before it ended.",
    "daily-unfounded": "Daily credits that the person's plan did not give then, or of another day than it was there.",
    "grant-reversed-twice": "The grant was taken back more than once.",
    "part-differs": "What the hold took from a bucket is not what it charged and gave back of it.",
    "hold-missing": "Entries or operations speak of this hold, and it is gone.",
    "hold-unfounded": "No operation or no entry made this hold: it promises credits that nobody set aside.",
    "hold-differs": "The hold is not what its entries and operations made of it.",
    "hold-request": "The hold is not what was asked for: its price, amount or generation was changed.",
    "hold-price": "The hold's price is not what the catalogue said at its version, or not what was promised.",
    "hold-beside-another": "The generation's hold before this one is open, was charged, or is gone: it may pay twice.",
    "hold-orphaned": "The generation that this hold pays for is gone, or is somebody else's.",
    "hold-forgotten": "The hold will run out and the sweep will not look in time.",
    "hold-overdue": "The hold ran out and nobody gave its credits back: the sweep does not run.",
    "charge-refunded-twice": "What this hold was charged was given back more than once, or more than it was.",
    "operation-differs": "The operation answered something else than its entries did.",
    "operation-repeated": "Another operation claims the same transaction: one of them was invented.",
    "operation-changed": "What somebody did here does not fit its hash: it was changed, or made by hand.",
    "operation-missing": "What somebody did before this, or last, is gone.",
    "overdraft-beyond-limit": "The operation let the person borrow beyond the limit.",
    "generation-differs": "The generation and its hold disagree: person, price, round, charge, or whether it is over.",
    "warning-unanswered": "No operation answers for this warning: nobody was told so then, or not of so much.",
    "price-changed": "The price version does not fit its hash: it was edited.",
    "price-missing": "A price version that was added before this one, or this one itself, is gone.",
    "price-unanswered": "No operation answers for this price version: nobody added it.",
    "plan-differs": "The plan is not what was last said about it, or nobody ever made it so.",
    "guard-missing": "What keeps history as it is, a trigger or what seals it, is off, gone, or was replaced.",
    "unreadable": "A value in here is beyond all bounds, so that a part of it cannot be verified.",
    "sum-differs": "Over everyone, credits came from nowhere or went nowhere.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row that disagrees with what the entries say.

    Attributes:
        kind: a key of MEANINGS.
        table, key: which row: user/seq of entries, scope/key of operations, else its own key.
        user_id: whose; None when it is nobody's.
        detail: what the row says and what was derived.
    """

    kind: str
    table: str
    key: str
    user_id: str | None
    detail: Mapping[str, Any]

    @property
    def meaning(self) -> str:
        """What it means, in a sentence."""
        return MEANINGS[self.kind]

    def as_json(self) -> dict[str, Any]:
        """For records and machines."""
        return {
            "kind": self.kind,
            "table": self.table,
            "key": self.key,
            "user_id": self.user_id,
            "meaning": self.meaning,
            "detail": self.detail,
        }

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.meaning} ({self.kind})"
