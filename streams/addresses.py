"""What the settings say of servers' addresses and secrets: whether it can work, in one line each.

No message shows a password: of a URL only the address is printed.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, parse_qs, urlsplit

from streams.errors import ConfigurationError

_ENCODE = "write / as %2F, ? as %3F, # as %23 and @ as %40 in a password"
_LIKE = "redis[s]://[user:password@]host:port/db"
_OPTIONS = frozenset(
    [
        "client_name",
        "db",
        "health_check_interval",
        "password",
        "protocol",
        "socket_keepalive",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "ssl_password",
        "username",
    ]
)
"""Of a Redis URL, after its `?`."""


DNS = "dns:///"
"""Begins a name that stands for all of its addresses, as in gRPC."""


def check_hosts(setting: str, text: str, *, names: bool = False) -> None:
    """Check `host:port[,host:port]`, or `unix:/path`; with `names` also `dns:///host:port`.

    Raises:
        ConfigurationError: one of them is no such address.
    """
    for given in map(str.strip, text.split(",")) if text else ():
        if given.startswith("unix:"):
            continue
        address = given.removeprefix(DNS) if names else given
        host, _, port = address.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        plain = (
            bare and not any(sign in bare for sign in "/@ ") and (bare != host or ":" not in host)
        )
        if not (plain and port.isdecimal() and 0 < int(port) < 65536):
            shown = text.rpartition("@")[2]  # what stands before it may be a password
            raise ConfigurationError(
                f"{setting}={shown!r} is no address - give host:port[,host:port], as broker:9092"
            )


def check_redis(setting: str, url: str) -> None:
    """Check a Redis URL; an empty one is none.

    Raises:
        ConfigurationError: it is malformed, or would send its password in the clear.
    """
    if not url:
        return
    parts = _parts(setting, url)
    if parts.scheme == "unix":
        return
    if not parts.hostname:
        raise ConfigurationError(f"{setting} names no host - give {_LIKE}")
    database = parts.path.lstrip("/")
    if database and not database.isdecimal():
        raise ConfigurationError(
            f"{setting}: {database!r} is no database number - give {_LIKE}, with db as 0"
        )
    options = parse_qs(parts.query)
    if unknown := sorted(set(options) - _OPTIONS):
        raise ConfigurationError(
            f"{setting}: there is no option {unknown[0]!r} - use one of "
            f"{', '.join(sorted(_OPTIONS))}"
        )
    if parts.scheme == "rediss":
        return
    if any(name.startswith("ssl_") for name in options):
        raise ConfigurationError(
            f"{setting} has TLS options and no TLS - begin it with rediss://, or leave them out"
        )
    if (parts.password or "password" in options) and not is_local(parts.hostname):
        raise ConfigurationError(
            f"{setting} would send its password to {parts.hostname} in the clear - begin it with "
            "rediss:// (TLS)"
        )


def public(url: str) -> str:
    """A Redis URL's address without user, password and options, whatever it looks like."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return parts.path
        _ = parts.port
        if "@" in parts.path + parts.query + parts.fragment:  # part of a password, most likely
            return "an address that cannot be read"
        return parts.netloc.rpartition("@")[2] or "an empty address"
    except ValueError:
        return "an address that cannot be read"


def masked(url: str) -> str:
    """A Redis URL with its user and password left out; nothing else of a malformed one."""
    scheme = url.partition("://")[0] if "://" in url else "redis"
    return f"{scheme}://***@{public(url)}" if "@" in url else url


def is_local(host: str) -> bool:
    """Whether a host, as an address names it, is this machine by its loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def all_local(hosts: str) -> bool:
    """Whether all of `host:port[,host:port]` are this machine; so are none."""
    return all(is_local(one.rpartition(":")[0]) for one in hosts.split(",") if one)


def _parts(setting: str, url: str) -> SplitResult:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(f"{setting} does not begin with redis:// - give {_LIKE}")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message shows the address
        raise ConfigurationError(f"{setting} cannot be read - give {_LIKE}; {_ENCODE}") from None
    if "@" in parts.path + parts.query + parts.fragment and parts.scheme != "unix":
        raise ConfigurationError(
            f"{setting} cannot be read, its password has signs of URLs - {_ENCODE}"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ConfigurationError(
            f"{setting}: its port is no number from 1 to 65535 - give {_LIKE}; {_ENCODE}"
        ) from None
    return parts
