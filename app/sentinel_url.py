"""The URL of a server behind Sentinel: whom to ask, for which master, and how to log in there.

`redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/database][?options]`, as docket, Prefect and
Redis-Sentinel-Url have it; `rediss+sentinel://` for TLS to the sentinels and to the servers. User and password are the
servers'; the sentinels' own are the options `sentinel_username` and `sentinel_password`. The rest are redis-py's.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlencode

PORT = 26379
ASKING_S = 0.5
"""A sentinel that says nothing for this long is passed over: a round of three fits into a connection's patience."""
FORM = "redis+sentinel://:password@host:26379,host:26379,host:26379/mymaster/0"
_URL = re.compile(
    r"redis(?P<tls>s?)\+sentinel://(?:(?P<login>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<master>[^@/?#]+)(?:/(?P<database>\d*))?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?")


def is_sentinel(url: str) -> bool:
    """Tell whether a URL names sentinels."""
    return url.startswith(("redis+sentinel://", "rediss+sentinel://"))


@dataclass(frozen=True, slots=True)
class Sentinels:
    """What such a URL says."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    database: int
    tls: str
    login: str = field(repr=False)
    own: dict[str, str] = field(repr=False)
    """The sentinels' user and password."""
    options: str
    """What else is said of the connections to the servers, as a query."""

    @classmethod
    def of(cls, url: str) -> Self | None:
        """Read a URL; None if it names a server itself. Raises `ValueError`, which says what to write."""
        if not is_sentinel(url):
            return None
        found = _URL.fullmatch(url)
        if found is None:
            raise ValueError(f"use {FORM}, rediss+sentinel:// for TLS; a password's / # ? and @ are %2F %23 %3F %40")
        query = parse_qsl(found["query"] or "")
        return cls(
            addresses=tuple(map(_address, found["hosts"].split(","))),
            master=unquote(found["master"]),
            database=int(found["database"] or 0),
            tls=found["tls"],
            login=found["login"] or "",
            own={name.removeprefix("sentinel_"): value for name, value in query if name.startswith("sentinel_")},
            options=urlencode([(name, value) for name, value in query if not name.startswith("sentinel_")]),
        )

    @property
    def shown(self) -> str:
        """Name all sentinels, without passwords."""
        return ", ".join(f"{host}:{port}" for host, port in self.addresses)

    def server(self, host: str, port: int) -> str:
        """Give the URL of one of the servers."""
        return f"redis{self.tls}://{self._at(host, port)}{'?' if self.options else ''}{self.options}"

    def kombu(self) -> str:
        """Give the URL by which kombu begins; the other sentinels are among its options."""
        return f"sentinel://{self._at(*self.addresses[0])}"

    def asking(self, tls_options: dict[str, Any]) -> dict[str, Any]:
        """Give redis-py's options for a connection to a sentinel."""
        secure = {"ssl": True, **tls_options} if self.tls else {}
        return {"socket_connect_timeout": ASKING_S, "socket_timeout": ASKING_S, **self.own, **secure}

    def _at(self, host: str, port: int) -> str:
        login = f"{self.login}@" if self.login else ""
        return f"{login}{f'[{host}]' if ':' in host else host}:{port}/{self.database}"


def _address(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[2] or PORT) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise ValueError(f"{text!r} is no sentinel's host:port, with a port from 1 to 65535: use {FORM}")
    return found[1].strip("[]"), port
