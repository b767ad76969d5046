"""The page in a browser: a run that goes on, a filter, a group with its picture and boxes, tokens in colours, and
hostile completions that stay text. It needs Playwright, which `make test` installs, and the system's Chromium."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.records import SamplingParams
from rollout.store import RolloutStore
from tests.unit.report.drawn_run import build_run, metrics, sums

playwright = pytest.importorskip("playwright.sync_api", reason="THE PAGE WAS TRIED IN NO BROWSER: make .venv/.browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STARTED = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 60_000
STEPS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("browser"), steps=STEPS)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """Of a command that was started as a user starts it; Ctrl-C ends it without a word."""
    command = [sys.executable, "-m", "pangu_rl", "view", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGINT)
        said, complained = server.communicate(timeout=60)
    assert (server.returncode, said, complained) == (0, "", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("THE PAGE WAS TRIED IN NO BROWSER: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=STARTED)
        yield opened
        opened.close()


@pytest.fixture(params=[1400, 400])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """With whatever a script could bring about, which must be nothing."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.set_default_timeout(WAIT_MS)
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: troubles.append(dialog.message))
    opened.on(
        "request", lambda asked: None if asked.url.startswith(address.split("?")[0]) else troubles.append(asked.url)
    )
    opened.goto(address)
    yield opened
    refusals = [line for line in troubles if "the server responded with a status of 400" in line]
    assert troubles == refusals
    opened.close()


def fits(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_from_the_curves_to_a_group_with_boxes(page: Any, run: Path) -> None:
    page.get_by_text("Reward parts").wait_for()
    assert "token" not in page.url and fits(page)
    assert page.evaluate("document.cookie") == ""
    assert page.locator(".panel").count() >= 5

    page.get_by_role("link", name="Rollouts").click()
    page.locator("tbody tr").first.wait_for()
    assert page.locator(".pager").first.inner_text().startswith("1 to ") and fits(page)
    page.get_by_label("Where").fill("len(images) > 0 and reward > 0.5")
    page.get_by_role("button", name="Show").click()
    page.get_by_text(f"1 to {STEPS} of {STEPS}").first.wait_for()
    page.get_by_label("Where").fill("rewrd > 0.5")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("no column 'rewrd': did you mean reward?").wait_for()
    page.go_back()
    page.locator("tbody tr a").first.click()

    gold, found = page.locator(".places.gold polygon"), page.locator(".places.found polygon")
    gold.wait_for(state="attached")
    assert gold.get_attribute("points") == "20,30 60,30 60,70 20,70"
    assert found.get_attribute("points") == "24,28 66,28 66,70 24,70"
    x, y = gold.evaluate("node => { const m = node.getScreenCTM(); return [20 * m.a + m.e, 30 * m.d + m.f]; }")
    shown = page.locator(".frame img").bounding_box()
    # The picture is 160 x 120: the box begins an eighth and a quarter of the way. Its frame is a pixel wide.
    assert abs(x - shown["x"] - shown["width"] / 8) < 1.5 and abs(y - shown["y"] - shown["height"] / 4) < 1.5
    page.locator("article.card").nth(1).hover()
    page.get_by_text("completion 1", exact=True).first.wait_for()
    assert found.get_attribute("points") == "90,50 140,50 140,100 90,100" and fits(page)


def test_tokens_are_coloured_by_what_is_chosen(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#group?run=a%20run&step=3&group=3:s&uid=3:s/0")
    page.get_by_role("button", name="colour by token").first.click()
    tokens = page.locator("pre.answer .token")
    tokens.first.wait_for()
    assert tokens.count() == 21 and "log-prob -0.5" in tokens.first.get_attribute("title")
    page.get_by_label("colour tokens by").select_option("weight version")
    kinds = [tokens.nth(index).get_attribute("class") for index in (0, 3, 4, 20)]
    assert kinds == ["token v0", "token v0", "token v1", "token v1"]
    colours = [tokens.nth(index).evaluate("node => getComputedStyle(node).backgroundColor") for index in (0, 20)]
    assert colours[0] != colours[1]
    page.get_by_label("colour tokens by").select_option("mismatch")
    assert [tokens.nth(index).get_attribute("class") for index in range(4)] == [
        "token up4",
        "token down3",
        "token up1",
        "token none",
    ]
    assert "learner -0.25 nats" in tokens.nth(1).get_attribute("title")
    page.goto(page.url.split("#")[0] + "#group?run=a%20run&step=1&group=1:s&uid=1:s/0")
    page.get_by_text("Step 1, group 1:s").wait_for()
    page.get_by_role("button", name="colour by token").first.click()
    page.get_by_label("colour tokens by").select_option("mismatch")
    assert "no log-probs of the learner: it is older" in page.locator(".tokenbar").inner_text()


def test_hostile_completions_are_inert(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#group?run=a%20run&step=1&group=1:h")
    answer = page.locator("article pre.answer").first
    answer.wait_for()
    text = answer.inner_text()
    assert "<script>document.title='pwned'</script>" in text and "[U+202E]gnp.exe" in text and "AAAthe end" in text
    assert "characters left out" in text and len(text) < 5000
    assert page.title() == "a run - pangu_rl"
    for inside in ("script", "img", "svg[onload]", "article article"):
        assert page.locator(f"article {inside}").count() == 0
    assert page.evaluate("getComputedStyle(document.querySelector('article pre.answer')).unicodeBidi") == "isolate"
    page.goto(page.url.split("#")[0] + "#rollouts?search=onload")
    page.locator("tbody tr").first.wait_for()
    assert page.title() == "a run - pangu_rl" and fits(page)


def test_a_run_that_goes_on_is_followed(page: Any, run: Path) -> None:
    step = max(RolloutStore(run).steps()) + 1
    page.get_by_text("Reward parts").wait_for()
    RolloutStore(run).append(step, [sums(step)], SamplingParams())
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics(step) | {"train/loss": 0.25}) + "\n")
    page.locator("figcaption", has_text="Loss").wait_for()
    assert page.locator("figure", has_text="Loss").locator(".legend").first.inner_text().startswith("0.25")
