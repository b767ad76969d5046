"""Messages between the pool and its children: length-prefixed frames; tasks go down as pickle, results come up as JSON.

Only the pool pickles. A child runs code of plugins and algebra over model text, so nothing it sends is unpickled: its
replies are JSON of a bounded length, and anything else costs the child its life.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import socket
import struct
import time
from typing import Any

from pangu_rl.records import Outcome, Part, Vote

REQUEST = struct.Struct("!ci")
"""An order to the nursery, and a process id (0 for none)."""
START, DISCARD = b"S", b"D"
MAX_REPLY_BYTES = 1 << 20
OUT_OF_MEMORY = 77
"""Exit code of a child that went over its memory limit."""

_LENGTH = struct.Struct("!Q")
_PART = "__part__"
_ERROR_CHARS = 500


class ChildError(Exception):
    """The function raised, or its result is no plain data; `kind` is the exception's type, `text` one line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class BadReply(ChildError):
    """What came is no reply: its child is out of step and must not get another task."""

    def __init__(self, text: str) -> None:
        super().__init__("BadReply", text)


def send_frame(connection: socket.socket, body: bytes, until: float | None = None) -> None:
    """Send one frame, at the latest until `until` (monotonic); raises `OSError`, `TimeoutError` among them."""
    _set_timeout(connection, until)
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive_frame(connection: socket.socket, until: float | None = None, limit: int | None = None) -> bytes:
    """Receive one frame.

    Raises:
        OSError: no whole frame until `until` (`TimeoutError`), or the other side is gone (`ConnectionError`).
        BadReply: the frame is longer than `limit` bytes.
    """
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size, until))
    if limit is not None and length > limit:
        raise BadReply(f"{length} bytes, a child may send {limit}")
    return _receive(connection, length, until)


def encode_result(result: Any) -> bytes:
    """A reply with plain data: None, bool, numbers, text, lists, dicts, and `Part`; raises `TypeError` for others."""
    body = json.dumps({"result": result}, default=_as_data).encode()
    if len(body) > MAX_REPLY_BYTES:
        raise ValueError(f"the result has {len(body)} bytes, a child may send {MAX_REPLY_BYTES}")
    return body


def encode_error(error: BaseException) -> bytes:
    text = " ".join(str(error).split())[:_ERROR_CHARS]
    return json.dumps({"error": [type(error).__name__, text]}).encode()


def decode_reply(body: bytes) -> Any:
    """The result that a child sent.

    Raises:
        ChildError: the function raised in the child. BadReply: the body is no such JSON.
    """
    try:
        reply = json.loads(body, object_hook=_part)
        if "result" in reply:
            return reply["result"]
        kind, text = reply["error"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadReply(f"no reply that can be read: {type(error).__name__}") from None
    raise ChildError(str(kind), str(text))


def _as_data(value: Any) -> Any:
    if isinstance(value, Part):
        return {_PART: dataclasses.asdict(value)}
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # an array or tensor of one element
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot leave a child: return numbers, text, lists, dicts or a Part")


def _part(data: dict[str, Any]) -> Any:
    if data.keys() != {_PART}:
        return data
    part = Part(**data[_PART])
    if not isinstance(part.value, int | float | None):
        raise TypeError("the value of a Part is a number or None")
    votes = tuple(Vote(**vote) for vote in part.votes)
    return dataclasses.replace(part, outcome=Outcome(part.outcome), detail=str(part.detail), votes=votes)


def _receive(connection: socket.socket, count: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        _set_timeout(connection, until)
        piece = connection.recv(min(count - len(data), 1 << 16))
        if not piece:
            raise ConnectionError("the other side is gone")
        data += piece
    return bytes(data)


def _set_timeout(connection: socket.socket, until: float | None) -> None:
    if until is None:
        connection.settimeout(None)
        return
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
