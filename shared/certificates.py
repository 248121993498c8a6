"""Whom we believe to be who they say: the public certificate authorities, read once in a process."""

import ssl
from functools import cache

import httpx


@cache
def authorities() -> ssl.SSLContext:
    """Reading them takes longer than a request; every client of the process checks by the same."""
    return httpx.create_ssl_context(trust_env=False)
