"""A client of the page that has come in by its address, as a browser does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from pangu_rl.view.app import make_app
from pangu_rl.view.opened import Opened

TOKEN, PORT = "the-token", 8123


def strange_client(*folders: Path) -> TestClient:
    """Without the token."""
    app = make_app(Opened(folders), TOKEN, PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=True)


def client_of(*folders: Path) -> TestClient:
    client = strange_client(*folders)
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


def asked(client: TestClient, name: str, /, **question: Any) -> Any:
    answer = client.get(f"/api/{name}", params=question)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, name: str, /, **question: Any) -> str:
    """The one line of a question that cannot be answered."""
    answer = client.get(f"/api/{name}", params=question)
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    line = answer.json()["error"]
    assert "\n" not in line
    return line
