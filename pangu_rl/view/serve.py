"""`pangu-rl view`: a socket of this machine alone, a new token, and the page until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from pangu_rl.errors import ConfigError
from pangu_rl.view.access import LOOPBACK
from pangu_rl.view.app import make_app
from pangu_rl.view.opened import Opened


def serve(folders: Sequence[Path], port: int, say: Callable[[str], None]) -> None:
    """Serve the page; `say` gets its address, which holds the token and is said nowhere else.

    Raises:
        DataError: a folder that no run wrote, or a store of a newer schema. ConfigError: the port is taken.
    """
    opened = Opened(folders)
    token = secrets.token_urlsafe(32)
    with listening(port) as found:
        port = found.getsockname()[1]
        # Its access log would repeat the token.
        config = uvicorn.Config(
            make_app(opened, token, port),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        say(f"http://{LOOPBACK}:{port}/?token={token}")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[found])


def listening(port: int) -> socket.socket:
    """A socket on the loopback address; port 0 is a free one.

    Raises:
        ConfigError: the port is taken, or not to be had.
    """
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK, port))
        made.listen()  # who comes before the server is up waits
    except OSError as error:
        made.close()
        raise ConfigError(
            f"--port {port}: {LOOPBACK}:{port} is not to be had ({error.strerror}): name another, or 0 for a free one"
        ) from None
    return made
