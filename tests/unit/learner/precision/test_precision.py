"""The gate between two implementations: a planted error is found in the layer where it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.errors import DataError, RunError
from pangu_rl.learner.precision.difference import LIMIT, Difference, curves_apart, differences, first_beyond
from pangu_rl.learner.precision.fixed_sequence import fixed_sequence
from pangu_rl.learner.precision.sides import own_code, own_log_probs, trace_of
from pangu_rl.learner.precision.trace import Trace, load_trace, record_trace
from pangu_rl.loops.align_precision import align_curves, keep_trace, precision_table
from tests.builders import build_tiny_model

TOKENS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", layers=3, dtype="float32")


@pytest.fixture(scope="module")
def sound(folder: Path) -> Trace:
    return trace_of(f"transformers:{folder}", TOKENS)


def test_the_learner_computes_what_transformers_computes(folder: Path, sound: Trace, tmp_path: Path) -> None:
    """float32: rounding alone, far below what the gate lets through."""
    keep_trace(str(folder), tmp_path / "trace.safetensors", TOKENS)
    found = differences(load_trace(tmp_path / "trace.safetensors"), sound)
    assert first_beyond(found, 1e-4) is None
    assert [one.name for one in found if not one.is_gradient] == [
        "000 model.embed_tokens",
        *(f"00{layer + 1} model.layers.{layer}" for layer in range(3)),
        "004 log-probs",
    ]
    assert any(one.name == "gradient of model.layers.1.mlp.down_proj.weight" for one in found)


def test_a_planted_error_of_a_hundredth_is_named(folder: Path, sound: Trace) -> None:
    """What layer 1 puts out is 1 % too large: layer 0 and the embeddings agree, it and what follows do not."""
    model = own_code(folder)
    given = fixed_sequence(model.get_input_embeddings().num_embeddings // 2, TOKENS, None)
    model.model.layers[1].register_forward_hook(_one_percent_more)
    found = differences(sound, record_trace(model, lambda: own_log_probs(model, given, torch.device("cpu"))))
    first = first_beyond(found, LIMIT)
    assert first is not None and first.name == "002 model.layers.1"
    assert first.mre == pytest.approx(0.01, rel=1e-3)
    assert found[0].mae < 1e-6 and found[1].mae < 1e-6
    console = Console(width=120, record=True)
    console.print(precision_table(found, LIMIT))
    text = console.export_text()
    assert "002 model.layers.1" in text and "differs" in text


def _one_percent_more(_: object, __: object, output: Any) -> Any:
    return (output[0] * 1.01, *output[1:]) if isinstance(output, tuple) else output * 1.01


def test_a_wrong_gradient_alone_is_found(sound: Trace) -> None:
    name = "gradient of model.layers.2.self_attn.q_proj.weight"
    wrong = sound | {name: sound[name] * 1.01}
    first = first_beyond(differences(sound, wrong), LIMIT)
    assert first is not None and first.name == name and first.is_gradient
    broken = first_beyond(differences(sound, sound | {name: sound[name] * float("nan")}), LIMIT)
    assert broken is not None and not broken.finite


def test_losses_of_two_runs(tmp_path: Path) -> None:
    runs = {"a": [2.0, 1.0], "b": [2.01, 1.0], "c": [2.0], "d": [None, 1.0], "e": [1.0, 2.0], "zero": [0.0, 1e-9]}
    for name, losses in runs.items():
        (tmp_path / name).mkdir()
        rows = ({"step": step, "train/loss": loss} for step, loss in enumerate(losses, start=1))
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert align_curves(tmp_path / "a", tmp_path / "b") == pytest.approx(0.005)
    for one, other, step in (("a", "c", 2), ("c", "a", 2), ("a", "d", 1), ("d", "e", 1)):
        with pytest.raises(DataError, match=f"step {step} has a finite loss in .* and none in"):
            align_curves(tmp_path / one, tmp_path / other)
    with pytest.raises(DataError, match="nothing to compare with"):
        align_curves(tmp_path / "zero", tmp_path / "zero")
    with pytest.raises(DataError, match="has no train/loss"):
        align_curves(tmp_path / "a", tmp_path)


def test_errors_by_hand() -> None:
    """|1 - 1.1| and |3 - 2.9| are 0.1 in the mean, of 2 in the mean."""
    one, other = {"a": torch.tensor([1.0, -3.0])}, {"a": torch.tensor([1.1, -2.9])}
    expected = Difference(name="a", mae=pytest.approx(0.1), mre=pytest.approx(0.05), finite=True)
    assert differences(one, other) == [expected]
    assert curves_apart([2.0, 1.0], [2.02, 0.99]) == pytest.approx(0.01)
    assert curves_apart([-2.0, 1.0, 0.0], [-2.0, 1.03, 0.0]) == pytest.approx(0.03)


def test_traces_of_two_models_are_refused(tmp_path: Path) -> None:
    one = {"a": torch.zeros(2)}
    with pytest.raises(DataError, match="in one of the traces alone"):
        differences(one, {"b": torch.zeros(2)})
    with pytest.raises(DataError, match="of the same tokens"):
        differences(one, {"a": torch.zeros(3)})
    (tmp_path / "x").write_text("no trace")
    with pytest.raises(DataError, match="no trace"):
        load_trace(tmp_path / "x")


def planted(source: Path, target: Path, name: str) -> Path:
    """A copy of a model folder whose tensor `name` is off by a hundredth everywhere."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    save_file(tensors | {name: tensors[name] + 0.01}, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_the_command_names_the_layer_of_a_planted_error(folder: Path, tmp_path: Path) -> None:
    wrong = planted(folder, tmp_path / "wrong", "model.layers.1.mlp.down_proj.weight")
    same = CliRunner().invoke(app, ["align-precision", str(folder), f"transformers:{folder}", "--tokens", "24"])
    assert same.exit_code == 0, same.output
    found = CliRunner().invoke(app, ["align-precision", str(folder), str(wrong), "--tokens", "24"])
    assert isinstance(found.exception, RunError)
    assert str(found.exception).startswith("002 model.layers.1 differs: MAE ")


@pytest.mark.parametrize(
    ("tensor", "first"),
    [
        ("visual.blocks.2.mlp.down_proj.weight", "visual.blocks.2"),
        ("model.layers.1.mlp.down_proj.weight", "model.layers.1"),
    ],
)
def test_a_model_with_a_tower_is_shown_a_picture(tiny_vl_model: Path, tmp_path: Path, tensor: str, first: str) -> None:
    """The learner computes what the model's own code does, and an error of the tower is found in the tower."""
    sound = trace_of(str(tiny_vl_model), TOKENS)
    assert first_beyond(differences(sound, trace_of(f"transformers:{tiny_vl_model}", TOKENS)), 1e-4) is None
    wrong = trace_of(str(planted(tiny_vl_model, tmp_path / "wrong", tensor)), TOKENS)
    found = first_beyond(differences(sound, wrong), LIMIT)
    assert found is not None and found.name.partition(" ")[2] == first
    assert any(name.startswith("gradient of visual.") for name in sound)
