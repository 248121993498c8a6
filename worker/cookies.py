"""Cookies: none is kept. One would be sent to whoever is next at its host's address, and enough of them fill us up."""

from http.cookiejar import CookieJar, DefaultCookiePolicy


def none_kept() -> CookieJar:
    """A jar that takes no cookie from anybody."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
