"""Ray's token: whoever reaches an open Ray cluster runs code on it, so an open one is refused.

Ray reads RAY_AUTH_MODE once, when it is imported: these functions run before that.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pangu_rl.errors import ConfigError


def use_token_if_present() -> bool:
    """Turn token authentication on where a token exists and the user has not decided; returns whether it is on."""
    if "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def require_token(address: str) -> None:
    """Refuse a cluster that others can reach and that asks nobody who they are.

    Raises:
        ConfigError: no token is set up, `address` is not a loopback one, and RAY_AUTH_MODE does not allow it in so many
            words (`disabled`).
    """
    if use_token_if_present() or is_loopback(address) or os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return
    raise ConfigError(
        f"Ray cluster {address} without token authentication: whoever reaches it can run code on it; put its token "
        f"into {token_path()} (`ray get-auth-token --generate` on the head) and export RAY_AUTH_MODE=token on both "
        "sides, or export RAY_AUTH_MODE=disabled to accept that"
    )


def tighten_token() -> None:
    """Take the group's and the others' rights from the token file, which Ray writes as the umask says."""
    path = token_path()
    if path.is_file() and path.stat().st_mode & 0o077:
        path.chmod(0o600)


def token_path() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def is_loopback(address: str) -> bool:
    """Whether `host`, `host:port` or a URL names this machine alone."""
    host = address.partition("://")[2] or address
    host = host.split("/")[0].rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_token() -> bool:
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().is_file()
