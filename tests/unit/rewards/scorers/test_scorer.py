"""What is asked, what is kept, and what nobody may find: the cache, the delimiters, the key."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pangu_rl.config.load import dump_config, load_config
from pangu_rl.config.sections.scorers import ScorersConfig
from pangu_rl.errors import ConfigError
from rewards.scorers.panel import ScorerPanel
from rewards.scorers.records import PanelResult, ScoredItem
from tests.contracts.source_tree import ROOT
from tests.unit.rewards.scorers.endpoint import Answer, panel_config, scorer, serving, user_text, verdict

SECRET = "sk-canary-0123456789abcdef"
ITEM = ScoredItem(uid="0:p/0", question="6 + 1?", reference="7", response="7")


def score(config: ScorersConfig, *items: ScoredItem) -> list[PanelResult]:
    async def run() -> list[PanelResult]:
        panel = ScorerPanel(config)
        try:
            return await asyncio.gather(*(panel.score(item) for item in items))
        finally:
            await panel.close()

    return asyncio.run(run())


def test_a_request_as_the_endpoint_sees_it(tmp_path: Path) -> None:
    with serving() as endpoint:
        (found,) = score(panel_config(tmp_path / "c", scorer(endpoint.url)), ITEM)
        (body,) = endpoint.bodies
    assert [(v.scorer, v.criterion, v.score, v.reason) for v in found.votes] == [("judge", "similarity", 4, "because")]
    assert (body["model"], body["temperature"], body["seed"], body["max_completion_tokens"]) == ("m", 0.0, 0, 256)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_settings_that_an_endpoint_refuses_can_be_left_out(tmp_path: Path) -> None:
    with serving() as endpoint:
        judge = scorer(endpoint.url, temperature=None, seed=None, max_reason_chars=None)
        score(panel_config(tmp_path / "c", judge), ITEM)
        (body,) = endpoint.bodies
    assert not {"temperature", "seed"} & set(body)
    assert "maxLength" not in str(body["response_format"])


def test_delimiters_are_drawn_anew_and_are_no_part_of_the_cache_key(tmp_path: Path) -> None:
    others = [ScoredItem(uid=f"{i}", question="6 + 1?", reference="7", response=f"7.{i}") for i in range(5)]
    with serving() as endpoint:
        score(panel_config(tmp_path / "c", scorer(endpoint.url)), ITEM, *others)
        found = [set(re.findall(r"\b[0-9a-f]{32}\b", user_text(body))) for body in endpoint.bodies]
        assert all(len(delimiters) == 1 for delimiters in found) and len(set.union(*found)) == 6
        score(panel_config(tmp_path / "c", scorer(endpoint.url)), ITEM, *others)
        assert len(endpoint.bodies) == 6


def test_a_restarted_run_pays_for_nothing_twice(tmp_path: Path) -> None:
    """The first run is another process and dies by SIGKILL right after its last vote."""
    with serving() as endpoint:
        config = panel_config(tmp_path / "c.sqlite", scorer(endpoint.url))
        (tmp_path / "scorers.yaml").write_text(dump_config(config))
        program = f"""
import asyncio, os, signal
from pangu_rl.config.load import load_config
from pangu_rl.config.sections.scorers import ScorersConfig
from rewards.scorers.panel import ScorerPanel
from rewards.scorers.records import ScoredItem

async def run():
    panel = ScorerPanel(load_config(ScorersConfig, {str(tmp_path / "scorers.yaml")!r}))
    for response in "789":
        await panel.score(ScoredItem(uid=response, question="6 + 1?", reference="7", response=response))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run())
"""
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
        assert len(endpoint.bodies) == 3
        items = [ScoredItem(uid=f"again/{r}", question="6 + 1?", reference="7", response=r) for r in "6789"]
        assert [r.value for r in score(config, *items)] == [4.0] * 4
        assert len(endpoint.bodies) == 4, "only the new one"


def test_the_cache_holds_no_text_of_an_item_and_no_failures(tmp_path: Path) -> None:
    with serving() as endpoint:
        endpoint.script(Answer("five"))
        config = panel_config(tmp_path / "c", scorer(endpoint.url))
        item = ScoredItem(uid="u", question="private-question", reference="private-gold", response="private-response")
        assert score(config, item)[0].value is None
        endpoint.script(verdict(5))
        assert score(config, item)[0].value == 5.0, "a failure is asked again"
    assert b"private" not in (tmp_path / "c").read_bytes()


def test_whatever_decides_a_reply_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "media"
    root.mkdir()
    Image.new("RGB", (4, 4), "red").save(root / "a.png")
    prompt = tmp_path / "own.md"
    prompt.write_text("parts: question, pictures?, reference?, response\nCriterion: one.")
    item = ScoredItem(uid="u", question="q", reference="g", response="r" * 500, pictures=("a.png",))

    def config(**settings: object) -> ScorersConfig:
        judge = scorer(endpoint.url, **{k: settings.pop(k) for k in ("seed", "temperature") if k in settings})
        settings = {"criteria": (str(prompt),), "media_root": str(root), **settings}
        return panel_config(tmp_path / "c", judge, **settings)

    from dataclasses import replace

    with serving() as endpoint:
        for number, (settings, asked) in enumerate(
            [
                ({}, item),
                ({"seed": 1}, item),
                ({"temperature": 0.5}, item),
                ({"max_chars": 100}, item),
                ({}, replace(item, question="q2")),
                ({}, replace(item, reference="g2")),
                ({}, replace(item, response="r" * 501)),
                ({}, replace(item, pictures=("a.png", "a.png"))),
            ],
            start=1,
        ):
            for _ in range(2):
                score(config(**settings), asked)
                assert len(endpoint.bodies) == number, (settings, asked)
        score(config(), replace(item, uid="another"))
        assert len(endpoint.bodies) == 8, "the sample's name decides nothing"
        Image.new("RGB", (4, 4), "blue").save(root / "a.png")
        score(config(), item)
        assert len(endpoint.bodies) == 9, "another picture of the same name"
        prompt.write_text("parts: question, pictures?, reference?, response\nCriterion: two.")
        score(config(), item)
        assert len(endpoint.bodies) == 10, "another version of the prompt"
    with serving() as endpoint:
        score(config(), item)
        assert len(endpoint.bodies) == 1, "another endpoint"


def test_equal_responses_at_the_same_moment_are_asked_about_once(tmp_path: Path) -> None:
    with serving() as endpoint:
        items = [ScoredItem(uid=f"0:p/{i}", question="6 + 1?", reference="7", response="7") for i in range(8)]
        found = score(panel_config(tmp_path / "c", scorer(endpoint.url)), *items)
        assert [result.value for result in found] == [4.0] * 8 and len(endpoint.bodies) == 1


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match=r"scorers\.cache .*name another file"):
        ScorerPanel(panel_config(tmp_path / "c", scorer("http://127.0.0.1:9/v1")))


def test_the_key_is_sent_and_found_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("SCORER_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    complaint = Answer(f"Incorrect API key provided: {SECRET}", status=401)
    with serving() as endpoint:
        config = panel_config(tmp_path / "c", scorer(endpoint.url, api_key_env="SCORER_KEY"))
        endpoint.script(complaint, Answer(f"my key is {SECRET}"), Answer(status=500, content=SECRET), verdict(4))
        found = score(config, *[ScoredItem(uid=f"{i}", question="q", reference="g", response=f"{i}") for i in range(4)])
        assert all(headers["authorization"] == f"Bearer {SECRET}" for headers in endpoint.headers)
    complaints = [result.missing for result in found if result.missing]
    assert "Incorrect API key provided: ***" in str(complaints)
    panel = ScorerPanel(config)
    for text in (dump_config(config), repr(config), str(found), caplog.text, repr(vars(panel)), *capfd.readouterr()):
        assert SECRET not in text
    asyncio.run(panel.close())
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path


def test_a_key_that_hides_in_a_verdict_is_no_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that is taken out of reasons made the key whole again, behind the search for it."""
    monkeypatch.setenv("SCORER_KEY", SECRET)
    hidden = SECRET[:9] + "\u200b" + SECRET[9:]
    with serving(lambda body: verdict(4, f"it is {hidden}")) as endpoint:
        config = panel_config(tmp_path / "c", scorer(endpoint.url, api_key_env="SCORER_KEY"))
        (result,) = score(config, ITEM)
    assert result.value is None and not result.votes
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode(errors="ignore")
    for text in (str(result), kept):
        assert SECRET not in text.replace("\u200b", "").replace("\\u200b", "")


def test_what_the_environment_holds_for_openai_goes_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, SECRET)
    with serving() as endpoint:
        score(panel_config(tmp_path / "c", scorer(endpoint.url)), ITEM)
        (headers,) = endpoint.headers
    assert SECRET not in str(headers) and not [name for name in headers if name.startswith("openai-")]


def test_a_key_that_is_not_set_or_was_pasted_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCORER_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"SCORER_KEY .* is not set"):
        ScorerPanel(panel_config(tmp_path / "c", scorer("https://example.org/v1", api_key_env="SCORER_KEY")))
    path = tmp_path / "scorers.yaml"
    path.write_text(f"cache: c\nscorers: [{{name: a, model: m, base_url: 'http://h/v1', api_key_env: {SECRET}}}]")
    with pytest.raises(ConfigError, match="name of an environment variable") as caught:
        load_config(ScorersConfig, path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "file:///etc/passwd", "host/v1", "http://", "http://me:pw@host/v1", "http://host/v1?key=k"]
)
def test_an_address_that_is_no_plain_http_is_refused(tmp_path: Path, url: str) -> None:
    path = tmp_path / "scorers.yaml"
    path.write_text(f"cache: c\nscorers: [{{name: a, model: m, base_url: '{url}'}}]")
    with pytest.raises(ConfigError, match="base_url"):
        load_config(ScorersConfig, path)


def test_pictures_go_as_data_and_to_those_who_see(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    Image.new("RGB", (4, 4), "red").save(root / "a.png")
    item = ScoredItem(uid="u", question="Which colour?", reference="red", response="red", pictures=("a.png",))
    criteria = ("similarity", "consistency", "hallucination")
    with serving() as seeing, serving() as blind:
        two = (scorer(seeing.url, "seeing"), scorer(blind.url, "blind", sees_pictures=False))
        (found,) = score(panel_config(tmp_path / "c", *two, criteria=criteria, media_root=str(root)), item)
        assert found.value == 4.0 and len(found.votes) == 5
        urls = [p["image_url"]["url"] for b in seeing.bodies for p in b["messages"][1]["content"] if "image_url" in p]
        assert len(urls) == 2 and all(url.startswith("data:image/png;base64,") for url in urls)
        assert "image_url" not in str(blind.bodies)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "http://127.0.0.1:9/a.png"])
def test_a_picture_from_elsewhere_is_no_verdict_and_nothing_is_sent(tmp_path: Path, path: str) -> None:
    (tmp_path / "media").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    item = ScoredItem(uid="u", question="?", reference="red", response="red", pictures=(path,))
    with serving() as endpoint:
        config = panel_config(tmp_path / "c", scorer(endpoint.url), criteria=("consistency",), media_root="media")
        (found,) = score(config.model_copy(update={"media_root": str(tmp_path / "media")}), item)
        assert found.value is None and path in found.missing[0]
        assert endpoint.bodies == []


AFTER_FORK = """
import asyncio, os, sys
from rewards.scorers.llm_score import llm_score
from tests.unit.rewards.builders import completion, prompt

def score(text):
    part = asyncio.run(asyncio.wait_for(llm_score(prompt(), completion(text), config=sys.argv[1]), 20))
    print(part.value, flush=True)

score("before")
pid = os.fork()
score(f"after {pid}")
if pid:
    os.waitpid(pid, 0)
"""


def test_a_forked_process_makes_panels_of_its_own(tmp_path: Path) -> None:
    with serving() as endpoint:
        path = tmp_path / "scorers.yaml"
        path.write_text(dump_config(panel_config(tmp_path / "c", scorer(endpoint.url))))
        command = [sys.executable, "-c", AFTER_FORK, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "4.0\n" * 3, done.stderr


def test_the_cache_is_plain_sqlite(tmp_path: Path) -> None:
    with serving() as endpoint:
        score(panel_config(tmp_path / "c", scorer(endpoint.url)), ITEM)
    rows = sqlite3.connect(tmp_path / "c").execute("SELECT scorer, text FROM replies").fetchall()
    assert rows == [("judge", '{"reason": "because", "score": 4}')]
