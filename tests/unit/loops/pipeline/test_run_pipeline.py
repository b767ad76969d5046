"""What a pipeline does around its stages: order, entries, restarts, refusals. The stages are stand-ins that write what
real ones leave behind; `tests/e2e/test_pipeline.py` has the real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.load import load_config
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError, DataError, Preempted, RunError
from pangu_rl.loops.pipeline import kept_digests, results, stage_identity
from pangu_rl.loops.pipeline import run_pipeline as pipeline
from pangu_rl.loops.pipeline.run_pipeline import run_pipeline

ROWS = [{"id": f"q{i}", "prompt": f"{i}?", "answer": str(i)} for i in range(8)]


class Stages:
    """The stand-ins, what they were asked to do, and what goes wrong on request."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: dict[str, BaseException] = {}

    def note(self, config: Any) -> Path:
        folder = Path(config.trainer.run_dir)
        name = "/".join(folder.parts[-2:]) if folder.parent.name == "evaluations" else folder.name
        self.ran.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        if name in self.fails:
            raise self.fails[name]
        return folder

    def train(self, config: Any) -> None:
        """At every step that is kept every weight grows by the learning rate."""
        folder = self.note(config)
        start = load_file(Path(config.model.path) / "model.safetensors")
        for count, step in enumerate(sorted({config.trainer.steps, *config.trainer.keep_steps}), start=1):
            hf = folder / "checkpoints" / f"step_{step:06d}" / "hf"
            write_model(hf, {name: tensor + count * config.learner.optimizer.lr for name, tensor in start.items()})
        write_whole(folder / "metrics.jsonl", json.dumps({"step": config.trainer.steps, "time/train": 2.0}) + "\n")
        write_whole(folder / "rows.json", json.dumps({"train": 8, "left_out": 1}))

    def pairs(self, config: Any) -> None:
        folder = self.note(config)
        write_whole(folder / "pairs.jsonl", json.dumps({"model": str(load_weight(Path(config.model.path)))}) + "\n")
        counts = {"queries": {"selected": 1, "no_chosen": 7}, "candidates": 32, "bad_rows": 2, "made_from": "elsewhere"}
        write_whole(folder / "manifest.json", json.dumps(counts))

    def iterative(self, config: Any) -> None:
        """A round that selects nothing."""
        write_whole(self.note(config) / "manifest.json", json.dumps({"rounds": [{"selected": 0}], "model": None}))

    def evaluate(self, config: Any) -> dict[str, Any]:
        """The more weight, the more is right."""
        folder = self.note(config)
        right = load_weight(Path(config.model.path))
        correct = {row["id"]: index < 2 * right for index, row in enumerate(ROWS)}
        evaluation = {"name": "all", "step": 0, "correct": correct, "sources": dict.fromkeys(correct, "s")}
        write_whole(folder / "evaluations.json", json.dumps([evaluation]))
        write_whole(folder / "rows.json", json.dumps({"left_out": 0, "all": 8}))
        return {"all": {"items": 8, "accuracy": sum(correct.values()) / 8}}


def write_model(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_weight(folder: Path) -> float:
    return float(load_file(folder / "model.safetensors")["w"][0])


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    stand_ins = Stages()
    runs = {"sft": "train", "dpo": "train", "pairs": "pairs", "iterative": "iterative", "eval": "evaluate"}
    monkeypatch.setattr(pipeline, "RUNS", {stage: getattr(stand_ins, name) for stage, name in runs.items()})

    @contextmanager
    def no_ray(cluster: Any) -> Iterator[ray_runtime.Preemption]:
        preemption = ray_runtime.Preemption()
        signal.signal(signal.SIGTERM, preemption.request)
        yield preemption
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    monkeypatch.setattr(ray_runtime, "session", no_ray)
    return stand_ins


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Digests are kept for a process; a test stands for several."""
    yield
    forget()


def forget() -> None:
    stage_identity.folder_checksum.cache_clear()
    stage_identity.file_sha256.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """sft -> pairs -> dpo, a mean of sft and dpo, an evaluation of every model."""
    write_model(tmp_path / "model", {"w": torch.ones(3)})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    rows, model = str(tmp_path / "rows.jsonl"), {"path": str(tmp_path / "model")}
    trainer = {"run_dir": "unused", "steps": 1}
    files = {
        "sft": {"model": model, "data": {"train": rows}, "learner": {"optimizer": {"lr": 1.0}}, "trainer": trainer},
        "pairs": {"model": model, "data": {"queries": rows}, "trainer": {"run_dir": "unused"}},
        "iterative": {"model": model, "data": {"queries": rows}, "trainer": {"run_dir": "unused"}},
        "eval": {"model": model, "data": {"sets": {"all": rows}}, "trainer": {"run_dir": "unused"}},
    }
    files["dpo"] = files["sft"]
    for name, tree in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    takes = {"model.path": "sft.model"}
    tree = {
        "trainer": {"run_dir": str(tmp_path / "run")},
        "stages": {
            "sft": {"stage": "sft", "config": str(tmp_path / "sft.yaml")},
            "pairs": {"stage": "pairs", "config": str(tmp_path / "pairs.yaml"), "takes": takes},
            "dpo": {
                "stage": "dpo",
                "config": str(tmp_path / "dpo.yaml"),
                "takes": takes | {"data.train": "pairs.pairs"},
            },
            "mean": {"stage": "merge", "models": ["sft", "dpo"], "weights": [1, 3]},
        },
        "evaluate": {"config": str(tmp_path / "eval.yaml")},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return tmp_path / "pipeline.yaml"


def run(path: Path, *overrides: str, restart_from: str | None = None) -> dict[str, Any]:
    forget()
    return run_pipeline(load_config(PipelineConfig, path, overrides), restart_from)


ALL = [
    "evaluations/start",
    "sft",
    "evaluations/sft",
    "pairs",
    "dpo",
    "evaluations/dpo",
    "evaluations/mean",
]


def test_every_stage_takes_what_the_others_made(path: Path, stages: Stages) -> None:
    """Weights: start 1, sft 2, dpo 3, their mean with 1 to 3 is 2.75; twice as many items are right, rounded up."""
    manifest = run(path)
    folder = path.parent / "run"
    assert stages.ran == ALL
    assert load_weight(folder / "mean" / "model") == 2.75
    entries = manifest["stages"]
    assert list(entries) == ["sft", "pairs", "dpo", "mean"]
    assert entries["dpo"]["inputs"] == {
        "model.path": {"from": "sft.model", "checksum": entries["sft"]["outputs"]["model"]["checksum"]},
        "data.train": {"from": "pairs.pairs", "checksum": entries["pairs"]["outputs"]["pairs"]["checksum"]},
    }
    assert entries["sft"]["inputs"]["model.path"]["path"] == str(path.parent / "model")
    assert entries["sft"]["outputs"]["model"]["path"] == "sft/checkpoints/step_000001/hf"
    assert entries["sft"]["data"]["data.train"]["path"] == str(path.parent / "rows.jsonl")
    assert entries["mean"]["counts"]["weights"] == [0.25, 0.75]
    assert entries["pairs"]["counts"] == {
        "queries": {"selected": 1, "no_chosen": 7},
        "bad_rows": 2,
        "candidates": 32,
    }
    assert entries["sft"]["counts"] == {"steps": 1, "rows": {"train": 8, "left_out": 1}}
    assert entries["dpo"]["evaluation"]["sets"]["all"]["accuracy"] == 6 / 8
    assert manifest["start"]["start"]["sets"]["all"]["accuracy"] == 2 / 8
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert json.loads((folder / "seconds.json").read_text())["sft"]["steps"] == 2.0


def test_the_table_goes_from_each_model_to_those_it_was_made_from(path: Path, stages: Stages) -> None:
    run(path)
    rows = {row["stage"]: row for row in json.loads((path.parent / "run" / "table.json").read_text())}
    assert {name: row["against"] for name, row in rows.items()} == {
        "start": [],
        "sft": ["start"],
        "dpo": ["sft"],
        "mean": ["sft", "dpo"],
    }
    changes = rows["mean"]["columns"]["all"]["changes"]
    assert (changes["sft"]["gained"], changes["dpo"]["gained"], changes["dpo"]["lost"]) == (2, 0, 0)
    for name in ("table.md", "table.png"):
        assert (path.parent / "run" / name).stat().st_size > 100


def test_the_same_command_again_runs_nothing_and_writes_the_same(path: Path, stages: Stages) -> None:
    run(path)
    before = (path.parent / "run" / "manifest.json").read_bytes()
    stages.ran.clear()
    run(path)
    assert stages.ran == []
    assert (path.parent / "run" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("failing", ALL)
def test_a_failed_stage_is_where_the_next_start_goes_on(path: Path, stages: Stages, failing: str) -> None:
    stages.fails[failing] = RunError("an actor died")
    with pytest.raises(RunError, match=f"^{failing}: an actor died$"):
        run(path)
    stages.fails.clear()
    stages.ran.clear()
    run(path)
    assert stages.ran == ALL[ALL.index(failing) :]


def test_a_mistake_found_at_a_stages_start_may_be_mended(path: Path, stages: Stages) -> None:
    stages.fails["dpo"] = DataError("row 3 is bad")
    with pytest.raises(DataError, match=r"^dpo: row 3 is bad$"):
        run(path)
    stages.fails.clear()
    assert run(path, "stages.dpo.set.data.on_bad_row=skip")["stages"]["dpo"]["outputs"]


def test_a_stage_that_failed_with_a_checkpoint_keeps_its_settings(path: Path, stages: Stages) -> None:
    (path.parent / "run" / "dpo" / "checkpoints" / "step_000001").mkdir(parents=True)
    stages.fails["dpo"] = DataError("a picture has changed")
    with pytest.raises(DataError, match="a picture has changed"):
        run(path)
    with pytest.raises(ConfigError, match=r"dpo was begun with learner.optimizer.lr 1.0, now it is 0.5"):
        run(path, "stages.dpo.set.learner.optimizer.lr=0.5")
    assert "start refused by ConfigError: " in (path.parent / "run" / "run.log").read_text().splitlines()[-1]


def test_a_stage_whose_parent_is_gone_does_not_count_as_done(path: Path, stages: Stages) -> None:
    run(path)
    shutil.rmtree(path.parent / "run" / "sft")
    with pytest.raises(ConfigError, match=r"is over, and sft, from which it was made, is not: .*--restart-from sft"):
        run(path)


@pytest.mark.parametrize(
    ("override", "stage", "key"),
    [
        ("stages.sft.set.learner.optimizer.lr=0.5", "sft", "learner.optimizer.lr 1.0, now it is 0.5"),
        ("stages.dpo.set.trainer.steps=2", "dpo", "trainer.steps 1, now it is 2"),
        ("stages.mean.weights=[1,1]", "mean", r"weights \[1.0, 3.0\], now it is \[1.0, 1.0\]"),
        ("stages.dpo.takes={model.path: sft.model}", "dpo", "data.train"),
        ("evaluate.set.data.limit=3", "evaluate", "data.limit None, now it is 3"),
    ],
)
def test_a_changed_stage_is_refused_by_name_with_the_way_out(
    path: Path, stages: Stages, override: str, stage: str, key: str
) -> None:
    run(path)
    stages.ran.clear()
    with pytest.raises(ConfigError, match=f"{stage} was begun with {key}.*: set it back, .*--restart-from {stage}$"):
        run(path, override)
    assert stages.ran == []


def test_the_first_changed_stage_is_named(path: Path, stages: Stages) -> None:
    run(path)
    with pytest.raises(ConfigError, match="sft was begun"):
        run(path, "stages.dpo.set.trainer.steps=2", "stages.sft.set.trainer.steps=2", "evaluate.set.data.limit=3")


def test_what_only_says_where_and_how_often_may_change(path: Path, stages: Stages) -> None:
    run(path)
    stages.ran.clear()
    run(path, "stages.sft.set.trainer.checkpoint_every=1", "monitoring.live=false", "cluster.object_store_gib=0.5")
    assert stages.ran == []


def test_changed_rows_are_another_stage(path: Path, stages: Stages) -> None:
    run(path)
    rows = path.parent / "rows.jsonl"
    rows.write_text(rows.read_text().replace("0?", "zero?"))
    with pytest.raises(ConfigError, match=r"sft was begun with data.train.sha256 "):
        run(path)


def test_rows_that_look_unchanged_are_read_again_when_asked(path: Path, stages: Stages, monkeypatch) -> None:
    """A digest that is not the rows' own is believed, as their file has not changed; `verify` finds it out."""
    monkeypatch.setattr(kept_digests, "SETTLED_S", -1.0)
    run(path)
    kept = path.parent / "run" / kept_digests.DIGESTS
    other = {key: "0" * 64 if "rows.jsonl" in key else digest for key, digest in json.loads(kept.read_text()).items()}
    kept.write_text(json.dumps(other))
    with pytest.raises(ConfigError, match=r"data.*sha256"):
        run(path)
    run(path, "verify=true")


def test_another_start_is_another_pipeline(path: Path, stages: Stages) -> None:
    run(path)
    write_model(path.parent / "model", {"w": torch.zeros(3)})
    with pytest.raises(ConfigError, match=r"sft was begun with model.path.checksum "):
        run(path)


def test_restart_from_a_stage_sets_it_and_what_depends_on_it_aside(path: Path, stages: Stages) -> None:
    run(path)
    stages.ran.clear()
    override = "stages.pairs.set.data.limit=3"
    manifest = run(path, override, restart_from="pairs")
    assert stages.ran == ["pairs", "dpo", "evaluations/dpo", "evaluations/mean"]
    aside = path.parent / "run" / "set_aside" / "001"
    assert sorted(item.name for item in aside.iterdir()) == ["dpo", "evaluations", "mean", "pairs"]
    assert load_weight(aside / "mean" / "model") == 2.75
    assert manifest["stages"]["mean"]["outputs"]
    run(path, override, restart_from="mean")
    assert (path.parent / "run" / "set_aside" / "002" / "mean").is_dir()
    with pytest.raises(ConfigError, match="did you mean pairs"):
        run(path, override, restart_from="pair")


def test_an_output_that_was_changed_is_not_taken(path: Path, stages: Stages) -> None:
    run(path)
    (path.parent / "run" / "pairs" / "pairs.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"^dpo: takes pairs.pairs: .* has checksum .*--restart-from pairs"):
        run(path, restart_from="dpo")
    shutil.rmtree(path.parent / "run" / "sft" / "checkpoints")
    with pytest.raises(DataError, match=r"takes sft.model: .* is gone; --restart-from sft"):
        run(path)


def test_rows_that_are_missing_are_found_before_anything_runs(path: Path, stages: Stages) -> None:
    with pytest.raises(DataError, match=r"dpo: data.sft /nowhere.jsonl: no such file"):
        run(path, "stages.dpo.set={data.sft: /nowhere.jsonl, data.sft_share: 0.5}")
    assert stages.ran == []


def test_rounds_that_select_nothing_hand_their_model_on(path: Path, stages: Stages) -> None:
    tree = yaml.safe_load(path.read_text())
    takes = {"model.path": "sft.model"}
    tree["stages"]["rounds"] = {"stage": "iterative", "config": str(path.parent / "iterative.yaml"), "takes": takes}
    tree["stages"]["mean"]["models"] = ["rounds", "dpo"]
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    entries = run(path)["stages"]
    assert entries["rounds"]["outputs"] == entries["sft"]["outputs"]
    assert load_weight(path.parent / "run" / "mean" / "model") == 2.75


def test_sigterm_in_a_stage_ends_the_pipeline_after_it(path: Path, stages: Stages, monkeypatch) -> None:
    train = stages.train

    def stopped(config: Any) -> None:
        train(config)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setitem(pipeline.RUNS, "sft", stopped)
    with pytest.raises(Preempted, match="sft is over; the same command goes on with the next stage"):
        run(path)
    assert stages.ran == ["evaluations/start", "sft"]
    run(path)
    assert stages.ran == ALL


def test_killed_between_the_files_it_writes_equals_uninterrupted(
    path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of a child that runs the pipeline, at every third renaming of a file or folder, by turns before and after
    it; then the same command again."""
    monkeypatch.setattr(results, "plot_stages", lambda *_: None)  # it is drawn anew at every end, and slowly
    run(path)
    whole = path.parent / "run"
    manifest, table = ((whole / name).read_bytes() for name in ("manifest.json", "table.json"))
    point, survived = 0, False
    while not survived:
        shutil.rmtree(whole)
        survived = runs_to_its_end(path, point)
        run(path)
        assert (whole / "manifest.json").read_bytes() == manifest, f"killed at renaming {point}"
        assert (whole / "table.json").read_bytes() == table, f"killed at renaming {point}"
        point += 3
    assert point > 40, "there were fewer files than a pipeline of seven runs writes"


def runs_to_its_end(path: Path, point: int) -> bool:
    """Run the pipeline in a fork that kills itself at the renaming of number `point`: before it if that is even, after
    it if it is odd. False if it was killed; whatever else ends it early, a failure or a minute, fails the test."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        seen, replace = [], os.replace

        def killing(source: Any, target: Any) -> None:
            seen.append(target)
            last = len(seen) == point + 1
            if not last or point % 2:
                replace(source, target)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = killing
        try:
            run(path)
        except BaseException:  # of a fork nothing may reach the pytest around it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"the run that was to be killed at renaming {point} ended with {code}"
    return code == 0


def test_a_mean_over_steps_and_an_evaluation_as_a_stage(path: Path, stages: Stages) -> None:
    """Weights of 2, 3 and 4 at steps 2, 5 and 7 of sft; the mean of the first two, thrice the second, is 2.75."""
    tree = yaml.safe_load(path.read_text())
    tree["stages"]["sft"]["set"] = {"trainer.steps": 7}
    tree["stages"]["mean"] = {"stage": "merge", "models": ["sft"], "steps": [2, 5], "weights": [1, 3]}
    eval_file = tree["evaluate"]["config"]
    tree["stages"]["grid"] = {"stage": "eval", "config": eval_file, "takes": {"model.path": "mean.model"}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    run = path.parent / "run"
    found = run_pipeline(load_config(PipelineConfig, path))
    assert stages.ran[-2:] == ["evaluations/mean", "grid"]
    assert load_weight(run / "mean" / "model") == 2.75
    assert set(found["stages"]["sft"]["outputs"]) == {"model", "step_2", "step_5"}
    assert found["stages"]["sft"]["outputs"]["model"]["path"] == "sft/checkpoints/step_000007/hf"
    assert found["stages"]["mean"]["inputs"]["models.1"]["from"] == "sft.step_5"
    assert found["stages"]["grid"]["sets"]["all"]["items"] == 8
    assert "evaluation" not in found["stages"]["grid"] and "evaluation" in found["stages"]["mean"]
    for gone in ("sft/checkpoints/step_000002", "mean", "evaluations/mean", "grid"):
        shutil.rmtree(run / gone)
    forget()
    with pytest.raises(DataError, match=r"mean: takes sft.step_2: .* is gone; --restart-from sft makes it anew"):
        run_pipeline(load_config(PipelineConfig, path))
