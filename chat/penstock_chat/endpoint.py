"""`Endpoint`: where the server is and with what key it is asked."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from penstock_chat.errors import InputError

DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's API.

    Attributes:
        url: the root of the API, like `http://localhost:8000/v1`, without a slash at its end.
        key: sent as a bearer token if there is one; never shown and never saved.
    """

    url: str
    key: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """The server runs on this machine, so that no proxy of the environment leads to it."""
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def shown(self, url: str) -> str:
        """A URL of this server without a password that may be in it."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def shown_url(self) -> str:
        """The root of the API, likewise."""
        return self.shown(self.url)


def read_endpoint(url: str, key: str | None) -> Endpoint:
    """An endpoint from what a user writes: the scheme and the version at the end may be missing.

    Raises:
        InputError: this is no HTTP URL, or the key cannot be sent.
    """
    text = url.strip()
    text = (text if "://" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s\x00-\x1f]", text) or parts.query or parts.fragment:
        raise InputError(f"--url: {url!r} is not the URL of a server, like {DEFAULT_URL}")
    # A path that names a version anywhere is the whole root already, like /api/v1 or /v1beta/openai.
    if not any(re.fullmatch(r"v\d+\w*", part) for part in parts.path.split("/")):
        text += "/v1"
    if key is not None and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InputError("--api-key: a key has no spaces and nothing but ASCII characters")
    return Endpoint(text, key)
