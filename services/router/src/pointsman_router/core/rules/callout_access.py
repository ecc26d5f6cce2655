"""Whom rules may ask and with which credentials: the operator's word, not a rule author's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pointsman_common.errors import SettingsError
from pointsman_common.rpc_channel import parse_addresses

SECRET = "secret:"  # noqa: S105  (the prefix that names one)


@dataclass(frozen=True, slots=True)
class CalloutAccess:
    hosts: Sequence[str] = ("*",)
    """Hosts that may be asked, with `*` for anything."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name; a header of a callout names one as `secret:<name>`."""

    def http_url(self, url: str, *, key: str) -> str:
        """The URL as it is.

        Raises:
            SettingsError: it is none of http or https, or its host may not be asked.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise SettingsError(key, f"{url!r} is no URL") from error
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise SettingsError(key, f"{url!r} is no http:// or https:// URL")
        if parts.username or parts.password:
            raise SettingsError(key, "credentials belong in `headers`, as secret:<name>")
        self._check_host(host, key)
        return url

    def rpc_url(self, url: str, *, key: str) -> str:
        """A comma list of `grpc://host:port` and `unix:///path`, as it is. Raises SettingsError."""
        for address in parse_addresses(url, key=key):
            if not address.startswith("unix:"):
                self._check_host(address.rpartition(":")[0].strip("[]"), key)
        return url

    def headers(self, given: Mapping[str, str], *, key: str) -> dict[str, str]:
        """The headers of a callout, with their secrets. Raises SettingsError."""
        found: dict[str, str] = {}
        for name, value in given.items():
            secret = value.removeprefix(SECRET)
            if secret != value:
                if secret not in self.secrets:
                    raise SettingsError(f"{key}.{name}", f"there is no secret {secret!r}")
                found[name] = self.secrets[secret]
            else:
                found[name] = value
            if not found[name].isprintable():
                raise SettingsError(f"{key}.{name}", "is not one line")
        return found

    def _check_host(self, host: str, key: str) -> None:
        if not any(fnmatchcase(host.lower(), pattern.lower()) for pattern in self.hosts):
            raise SettingsError(key, f"the host {host!r} may not be asked, by `callout_hosts`")
