"""An adapter's folder: what is folded by hand and by peft, which adapters are refused, a whole model made once."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from pangu_rl.checkpoint import CheckpointStore
from pangu_rl.checkpoint import whole_model as whole_model_module
from pangu_rl.checkpoint.adapter_folder import CONFIG, WEIGHTS, FoldedModel, open_model, parameter_name, write_adapter
from pangu_rl.checkpoint.folding import folded
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.checkpoint.whole_model import whole_model
from pangu_rl.errors import DataError
from tests.unit.learner.builders import llama, save_llama

SIDES = {"lora_A": (2, 32), "lora_B": (32, 2)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_llama(tmp_path / "base")


def peft_adapter(base: Path, folder: Path, **options: object) -> PeftModel:
    """One that peft itself has made and saved, with a B that is not 0."""
    lm = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], **options))
    torch.manual_seed(1)
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.peft_config["default"].base_model_name_or_path = str(base)
    lm.save_pretrained(folder)
    return lm


def test_folding_by_hand() -> None:
    """[[1, 2], [3, 4]] + 0.5 * [[1], [2]] [[10, 20]] = [[1 + 5, 2 + 10], [3 + 10, 4 + 20]]; in bfloat16, whose numbers
    above 256 are even, 300 + 0.5 * (3 + 3) * 0.5 = 301.5 is rounded once, to 302."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = folded(weight, torch.tensor([[10.0, 20.0]]), torch.tensor([[1.0], [2.0]]), 0.5)
    assert found.tolist() == [[6, 12], [13, 24]]
    a, b = torch.full((2, 1), 0.5, dtype=torch.bfloat16), torch.full((1, 2), 3.0, dtype=torch.bfloat16)
    assert folded(torch.tensor([[300.0]], dtype=torch.bfloat16), a, b, 0.5).item() == 302


@pytest.mark.parametrize("options", [{"lora_alpha": 8}, {"lora_alpha": 8, "use_rslora": True}])
def test_an_adapter_of_peft_is_folded_as_peft_folds_it(base: Path, tmp_path: Path, options: dict) -> None:
    lm = peft_adapter(base, tmp_path / "adapter", **options)
    expected = lm.merge_and_unload().state_dict()
    model = open_model(tmp_path / "adapter")
    assert isinstance(model, FoldedModel) and model.entries.keys() == load_file(base / "model.safetensors").keys()
    for name in model.entries:
        # One rounding of float32 numbers below 1.
        torch.testing.assert_close(model.read(name), expected[name], atol=1e-7, rtol=0)
    weights = load_file(base / "model.safetensors")
    changed = {name for name in weights if not torch.equal(model.read(name), weights[name])}
    assert changed == {name for name in weights if "q_proj" in name or "down_proj" in name}


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("use_dora", True, "use_dora is True: only plain LoRA is folded"),
        ("modules_to_save", ["lm_head"], r"modules_to_save is \['lm_head'\]"),
        ("rank_pattern", {"q_proj": 8}, "rank_pattern is"),
        ("peft_type", "IA3", "peft_type is 'IA3'"),
        ("r", None, "no configuration of a LoRA adapter"),
        ("base_model_name_or_path", "/nowhere/model", "base_model_name_or_path /nowhere/model is no folder here"),
    ],
)
def test_what_is_no_plain_adapter_is_refused(base: Path, tmp_path: Path, key: str, value: object, error: str) -> None:
    peft_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=error):
        open_model(tmp_path / "adapter")


def ours(base: Path, folder: Path) -> None:
    layer = "model.layers.0.self_attn.q_proj"
    tensors = {parameter_name(layer, side): torch.ones(shape) for side, shape in SIDES.items()}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2.0, "base_model_name_or_path": str(base)}
    write_adapter(folder, config, tensors, base)


def test_a_tensor_that_files_name_otherwise_is_found(base: Path, tmp_path: Path) -> None:
    """The model calls the projection `inner.q_proj`, and its files have it under the name of a Llama."""
    stored = "model.layers.0.self_attn.q_proj.weight"
    tensors = {parameter_name("inner.q_proj", side): torch.ones(shape) for side, shape in SIDES.items()}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2.0, "base_model_name_or_path": str(base)}
    write_adapter(tmp_path / "adapter", config, tensors, base, {"inner.q_proj.weight": stored})
    weights, model = load_file(base / "model.safetensors"), open_model(tmp_path / "adapter")
    assert {name for name in weights if not torch.equal(model.read(name), weights[name])} == {stored}


def test_another_model_in_the_place_of_the_base_is_refused(base: Path, tmp_path: Path) -> None:
    ours(base, tmp_path / "adapter")
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, base / "model.safetensors")
    with pytest.raises(DataError, match="is not the one that it was trained beside"):
        open_model(tmp_path / "adapter")


def test_an_adapter_of_another_shape_or_name_is_refused(base: Path, tmp_path: Path) -> None:
    peft_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / WEIGHTS
    tensors = load_file(path)
    first = next(name for name in tensors if "lora_A" in name)
    save_file(tensors | {first: torch.ones(4, 7)}, path)
    with pytest.raises(DataError, match=r"is \(4, 7\) and model.layers.*of the base model"):
        open_model(tmp_path / "adapter")
    save_file({"base_model.model.elsewhere.lora_A.weight": torch.ones(4, 7)}, path)
    with pytest.raises(DataError, match=r"elsewhere.lora_A.weight belongs to no tensor of the base model"):
        open_model(tmp_path / "adapter")


def test_a_whole_model_is_made_once_beside_the_checkpoints(base: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000003"
    ours(base, checkpoint / "adapter")
    folder = whole_model(checkpoint)
    assert folder == tmp_path / "run" / "folded" / "step_000003"
    assert model_config(folder) == model_config(base)
    weights, made = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(made[name], weights[name] + 2.0)
    assert all(torch.equal(made[other], weights[other]) for other in weights if other != name)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert whole_model(checkpoint) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert whole_model(tmp_path / "plain") == tmp_path / "plain" / "hf"


def test_a_step_that_is_trained_anew_is_folded_anew(base: Path, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run", keep=2)
    for step in (2, 3):
        ours(base, store.begin(step) / "adapter")
        store.commit(step, {}, {})
    folded_before, other = (whole_model(store.directory / name) for name in ("step_000003", "step_000002"))
    shutil.rmtree(store.directory / "step_000003")  # a person's decision, after it was found corrupt
    store.begin(3)
    assert not folded_before.exists() and other.is_dir()


def test_two_stages_may_fold_one_model(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one begins and ends while this one writes; what a killed one left is removed, what lives is not."""
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000003"
    ours(base, checkpoint / "adapter")
    folder = tmp_path / "run" / "folded" / "step_000003"
    abandoned = folder.with_name(".partial-step_000003-dead")
    abandoned.mkdir(parents=True)
    write = whole_model_module.write_like

    def slowly(model: FoldedModel, partial: Path, values: object) -> dict:
        monkeypatch.setattr(whole_model_module, "write_like", write)
        assert not abandoned.exists()
        assert whole_model(checkpoint) == folder and partial.is_dir()
        return write(model, partial, values)

    monkeypatch.setattr(whole_model_module, "write_like", slowly)
    assert whole_model(checkpoint) == folder
    assert [path.name for path in folder.parent.iterdir()] == ["step_000003"]
    assert load_file(folder / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()


def test_a_file_system_without_locks_has_whole_folders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    other = tmp_path / ".partial-model-1234"
    other.mkdir()
    with whole_folder(tmp_path / "model") as partial:
        (partial / "a").write_text("a")
    assert (tmp_path / "model" / "a").read_text() == "a" and other.is_dir()


def test_an_adapter_is_no_model_path(base: Path, tmp_path: Path) -> None:
    ours(base, tmp_path / "adapter")
    with pytest.raises(DataError, match="an adapter, and no whole model; fold it: pangu-rl merge"):
        model_config(tmp_path / "adapter")
