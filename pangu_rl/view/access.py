"""Who may read: requests -> **those that carry the token, from this machine's own names**, with headers that forbid
the page everything but itself.

The token comes in the address once, which sets a cookie that scripts cannot read and other sites cannot send. A name
that is not this machine's own in `Host` is somebody else's site that resolves to it (DNS rebinding).
"""

from __future__ import annotations

import hmac

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
NAMES = frozenset((LOOPBACK, "localhost"))
"""With any port: a tunnel has another one at its end."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
WRITTEN_PAGE = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Of a page that somebody else wrote: without scripts, forms or anything from anywhere, and of no origin, so that it
could read nothing here if it had some. The style that it holds is its own."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Around the application; `port` is in the cookie's name, since cookies do not tell ports apart."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self.cookie = f"pangu_rl_view_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # nothing here speaks anything else
        asked = HTTPConnection(scope)
        enters = self._is_token(asked.query_params.get("token", ""))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answered.setdefault(name, value)
                if enters:
                    answered["set-cookie"] = f"{self.cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            await send(message)

        app = self._app if (refusal := self._refusal(asked, enters)) is None else refusal
        await app(scope, receive, guarded)

    def _refusal(self, asked: HTTPConnection, enters: bool) -> PlainTextResponse | None:
        host = asked.headers.get("host", "")
        if host.rpartition(":")[0] not in NAMES and host not in NAMES:
            return PlainTextResponse("this machine has no such name: open http://localhost with the port\n", 421)
        if asked.scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("there is nothing to change here\n", 405)
        if not enters and not self._is_token(asked.cookies.get(self.cookie, "")):
            return PlainTextResponse("no token: open the address that `pangu-rl view` printed\n", 401)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
