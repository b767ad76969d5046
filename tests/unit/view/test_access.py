"""Who gets in, what the page may do, and what a request can name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pangu_rl.view.access import POLICY
from tests.unit.report.drawn_run import build_run
from tests.unit.view.opened_page import PORT, TOKEN, asked, client_of, strange_client


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("view"), steps=1)


PLACES = ("/", "/assets/main.js", "/api/runs", "/api/rollouts", f"/media/{'0' * 64}", "/report", "/nowhere")


@pytest.mark.parametrize("place", PLACES)
def test_without_the_token_there_is_nothing(run: Path, place: str) -> None:
    client = strange_client(run)
    for question in ({}, {"token": ""}, {"token": TOKEN[:-1]}, {"token": TOKEN + "x"}, {"token": "höhle"}):
        answer = client.get(place, params=question)
        assert answer.status_code == 401 and "open the address" in answer.text
        assert "set-cookie" not in answer.headers
    client.cookies.set(f"pangu_rl_view_{PORT}", "another")
    assert client.get(place).status_code == 401
    client.cookies.set(f"pangu_rl_view_{PORT + 1}", TOKEN)
    assert client.get(place).status_code == 401, "the cookie of a viewer at another port"


def test_the_token_sets_a_cookie_that_scripts_and_other_sites_cannot_use(run: Path) -> None:
    client = strange_client(run)
    answer = client.get("/", params={"token": TOKEN})
    assert answer.headers["set-cookie"] == f"pangu_rl_view_{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert TOKEN not in answer.text
    others = {"cookie": f'username-127-0-0-1-8888="2|1:0|10:x"; {{"a": 1}}; pangu_rl_view_{PORT}={TOKEN}'}
    again = strange_client(run).get("/api/runs", headers=others)
    assert again.status_code == 200 and "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1.evil.example", "", "0.0.0.0", "[::1]:80"]
)
def test_another_name_of_this_machine_is_refused(run: Path, host: str) -> None:
    """DNS rebinding: a site that resolves to 127.0.0.1 sends its own name."""
    answer = client_of(run).get("/api/runs", headers={"host": host})
    assert answer.status_code == 421 and "run" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:1"])
def test_the_end_of_a_tunnel_has_another_port(run: Path, host: str) -> None:
    assert client_of(run).get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("place", PLACES)
def test_every_answer_forbids_all_that_the_page_does_not_need(run: Path, place: str) -> None:
    for client in (client_of(run), strange_client(run)):
        headers = client.get(place).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_policy_allows_no_inline_script_and_nothing_from_elsewhere(run: Path) -> None:
    assert "unsafe" not in POLICY and "*" not in POLICY and "data:" not in POLICY and "http" not in POLICY
    page = client_of(run).get("/").text
    assert "<script>" not in page and "<style" not in page and "http" not in page and " on" not in page


def test_nothing_can_be_sent(run: Path) -> None:
    for method in ("post", "put", "delete", "patch", "options"):
        assert getattr(client_of(run), method)("/api/runs").status_code == 405


def test_pictures_are_served_by_their_hash_alone(run: Path) -> None:
    kept = next((run / "rollouts" / "images").iterdir())
    client = client_of(run)
    answer = client.get(f"/media/{kept.stem}")
    assert answer.content == kept.read_bytes() and answer.headers["content-type"] == "image/png"
    ways = [
        kept.name,
        f"{kept.stem}.png",
        kept.stem.upper(),
        f"{kept.stem} ",
        f"{kept.stem}%00",
        "%2e%2e%2fstep_000001.parquet",
        "..%2F..%2Fconfig.yaml",
        "../step_000001.parquet",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "0" * 64,
    ]
    for way in ways:
        assert client.get(f"/media/{way}").status_code == 404, way
    for way in ("../app.py", "%2e%2e%2fapp.py", "main.js/..", "__init__.py", "nope.js"):
        assert client.get(f"/assets/{way}").status_code == 404, way


def test_a_link_that_another_put_there_is_not_followed(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = run / "rollouts" / "images" / f"{'a' * 64}.png"
    os.symlink(secret, link)
    try:
        assert client_of(run).get(f"/media/{'a' * 64}").status_code == 404
    finally:
        link.unlink()


def test_assets_are_what_they_say(run: Path) -> None:
    client: TestClient = client_of(run)
    kinds = {"main.js": "text/javascript", "view.css": "text/css", "icon.svg": "image/svg+xml"}
    for name, kind in kinds.items():
        assert client.get(f"/assets/{name}").headers["content-type"].startswith(kind)
    assert asked(client, "runs")["runs"][0]["name"] == "a run"
