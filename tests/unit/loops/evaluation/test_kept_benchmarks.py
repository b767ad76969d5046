"""An evaluation that ends in its midst goes on with the benchmarks that are missing, and with no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.checkpoint.settings import first_difference
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.errors import ConfigError, RunError
from pangu_rl.loops.evaluation import benchmark_inputs
from pangu_rl.loops.evaluation import run_benchmarks as loop
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.evaluation.kept_benchmarks import run_settings
from pangu_rl.loops.inputs.model import open_model
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt, RolloutRequest
from tests.e2e.test_benchmarks import write_files
from tests.unit.loops.evaluation.test_benchmark_inputs import SaysTheGold, ScoresAtOnce, config


class Machine:
    """A run and engines without Ray: says the golds, and counts the starts and what is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts, self.asked, self.said = 0, [], []
        self.down = ""
        """A question whose benchmark's judge is down."""
        monkeypatch.setattr(loop, "open_evaluation", self.open)

    @contextmanager
    def open(self, config: EvalConfig, inputs: EvalInputs, *_: Any) -> Iterator[tuple[Any, Any]]:
        old = inputs.loader
        object.__setattr__(inputs, "loader", RowLoader(old.encoder, old.folder, old.digests, put=lambda one: one))
        folder = Path(config.trainer.run_dir)
        folder.mkdir(exist_ok=True)
        run = SimpleNamespace(
            dir=folder, watchdog=SimpleNamespace(processes=None), phase=lambda *_, **__: nullcontext(),
            log=lambda *_: None, say=self.said.append, say_each=self.said.extend, raise_if_preempted=lambda _: None,
        )  # fmt: skip
        pool = SaysTheGold({prompt.uid: prompt.answer for rows in inputs.sets.values() for prompt in rows})
        rewards = ScoresAtOnce()
        machine = self

        class Pool:
            def start(self) -> None:
                machine.starts += 1

            def generate(self, requests: list[RolloutRequest]) -> Any:
                machine.asked += [request.prompt_uid for request in requests]
                return pool.generate(requests)

        class Rewards:
            collect, finished = rewards.collect, rewards.finished

            def submit(self, prompt: Prompt, completion: Any) -> None:
                if prompt.uid == machine.down:
                    raise RunError("the judge is down")
                rewards.submit(prompt, completion)

        yield run, SimpleNamespace(pool=Pool(), rewards=Rewards(), processes=dict, waiting=tuple)


def test_the_same_command_goes_on(tiny_vl_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    write_files(tmp_path)
    settings, machine = config(tmp_path, tiny_vl_model), Machine(monkeypatch)
    model = open_model(settings.model, settings.data, seed=None)
    monkeypatch.setattr(benchmark_inputs, "open_model", lambda *_, **__: model)  # a second or so, each time
    machine.down = "1000007"
    with pytest.raises(RunError, match="the judge is down"):
        loop.run_benchmarks(settings)
    run = tmp_path / "run"
    assert [path.name for path in (run / "benchmarks").iterdir()] == ["chartqa.json"]
    assert not (run / "benchmarks.json").exists()

    machine.down, machine.asked = "", []
    found = loop.run_benchmarks(settings)
    assert machine.asked == ["7", "8", "1000007", "1000008"], "ChartQA is not asked twice"
    assert {name: one["figure"]["value"] for name, one in found.items()} == {"chartqa": 100.0, "mmbench": 100.0}
    assert json.loads((run / "benchmarks.json").read_text()) == found
    said = [json.loads(line) for line in (run / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in said] == ["1", "2", "3", "4", "7", "8", "1000007", "1000008"]
    steps = {one["name"]: one["step"] for one in json.loads((run / "evaluations.json").read_text())}
    assert steps == {"chartqa": 1, "mmbench": 2}

    starts = machine.starts
    assert loop.run_benchmarks(settings) == found and machine.starts == starts, "no engine, nothing is missing"
    (run / "benchmarks" / "mmbench.json").unlink()
    with pytest.raises(ConfigError, match=r"chartqa\.json: .* answered with rows '\w+', now it is '\w+'"):
        loop.run_benchmarks(config(tmp_path, tiny_vl_model, limit=2))
    assert machine.starts == starts, "it is said before anything is asked"


def test_what_decides_answers_may_not_change_and_what_does_not_may(tiny_vl_model: Path, tmp_path: Path) -> None:
    plain = config(tmp_path, tiny_vl_model)

    def difference(**sections: dict[str, Any]) -> Any:
        changed = {name: getattr(plain, name).model_copy(update=section) for name, section in sections.items()}
        return first_difference(run_settings(plain), run_settings(plain.model_copy(update=changed)))

    assert difference(rollout={"actors": 2}, trainer={"run_dir": "elsewhere"}) is None
    assert difference(rollout={"max_new_tokens": 7}) == ("rollout.max_new_tokens", "8", "7")
    assert difference(model={"dtype": "float32"}) == ("model.dtype", "'bfloat16'", "'float32'")
