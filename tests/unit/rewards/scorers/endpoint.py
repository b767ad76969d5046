"""A real HTTP server on loopback that speaks the OpenAI chat protocol and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pangu_rl.config.sections.scorers import CanaryConfig, LimitsConfig, RetryConfig, ScorerConfig, ScorersConfig

NO_CANARIES = CanaryConfig(share=0.0)
FAST = RetryConfig(attempts=3, backoff_s=0.01, max_backoff_s=0.05, breaker_failures=100)


@dataclass
class Answer:
    """What the server does with one request."""

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    finish_reason: str = "stop"
    usage: dict[str, Any] | None = field(default_factory=lambda: {"prompt_tokens": 90, "completion_tokens": 10})
    raw: bytes | None = None
    """Sent as the body instead of a completion."""
    hang_up: bool = False
    seconds_per_byte: float = 0.0
    endless: bool = False
    """The body, again and again until the client leaves."""

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.content or "no", "type": "x"}}).encode()
        message = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        if self.usage:
            completion["usage"] = self.usage
        return json.dumps(completion).encode()


def verdict(score: int, reason: str = "because") -> Answer:
    return Answer(json.dumps({"reason": reason, "score": score}))


class Endpoint:
    """`answer` decides about every request; by default each gets score 4."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer] = lambda body: verdict(4)) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *answers: Answer) -> None:
        """These, then the last one for ever."""
        left = list(answers)
        self.answer = lambda body: left.pop(0) if len(left) > 1 else left[0]

    def start(self) -> None:
        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.times.append(time.monotonic())
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            answer = self.answer(body)
        try:
            if not answer.hang_up:
                self._send(handler, answer)
        finally:
            with self._lock:
                self._under_way -= 1
            handler.close_connection = True

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.body()
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", "Connection": "close", **answer.headers}.items():
            handler.send_header(name, value)
        if not answer.endless:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        while answer.endless:
            handler.wfile.write(content)
        if not answer.seconds_per_byte:
            handler.wfile.write(content)
            return
        for byte in content:
            handler.wfile.write(bytes([byte]))
            time.sleep(answer.seconds_per_byte)


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                endpoint.serve(self)
            except OSError:  # the client left
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Answer] | None = None) -> Iterator[Endpoint]:
    endpoint = Endpoint(answer) if answer else Endpoint()
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()


def scorer(url: str | None, name: str = "judge", **settings: Any) -> ScorerConfig:
    settings = {"retry": FAST, "limits": LimitsConfig(timeout_s=5.0), **settings}
    return ScorerConfig(name=name, model="m", base_url=url, **settings)


def panel_config(cache: Path, *scorers: ScorerConfig, **settings: Any) -> ScorersConfig:
    settings = {"criteria": ("similarity",), "canaries": NO_CANARIES, **settings}
    return ScorersConfig(scorers=scorers, cache=str(cache), **settings)


def user_text(body: dict[str, Any]) -> str:
    content = body["messages"][1]["content"]
    return content if isinstance(content, str) else "\n\n".join(p["text"] for p in content if p["type"] == "text")
