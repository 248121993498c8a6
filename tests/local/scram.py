"""A password as Postgres keeps it (RFC 5802), derived in one round instead of 4096.

The rounds make guessing slow for whoever steals what is kept. Ours are 128 random bits, which nobody guesses; and
asyncpg takes milliseconds for the rounds, in Python, with every connection it opens.
"""

import hmac
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from secrets import token_bytes


def verifier(password: str) -> str:
    """What may be given to Postgres in the password's place."""
    salt = token_bytes(16)
    salted = pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.digest(salted, whose, "sha256") for whose in (b"Client Key", b"Server Key"))
    salt64, stored64, server64 = (b64encode(part).decode() for part in (salt, sha256(client).digest(), server))
    return f"SCRAM-SHA-256$1:{salt64}${stored64}:{server64}"
