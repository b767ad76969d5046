"""Merging folders on disk: equal to the naive mean, in little memory, whole or not at all, and refused with reasons."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pangu_rl.checkpoint import whole_model
from pangu_rl.checkpoint.adapter_folder import write_adapter
from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.cli import app
from pangu_rl.errors import ConfigError, DataError, RunError
from pangu_rl.loops.pipeline import run_merge
from pangu_rl.loops.pipeline.run_merge import merge, model_folders
from tests.builders import build_tiny_model, build_tiny_vl_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("branches")
    return [build_tiny_model(folder / name, seed=seed) for seed, name in enumerate("abc")]


def write_folder(folder: Path, tensors: dict[str, torch.Tensor], *, shards: int = 1, **config: object) -> Path:
    """A folder with these tensors, dealt over so many shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    names = sorted(tensors)
    files = {f"model-{i + 1:05d}-of-{shards:05d}.safetensors": names[i::shards] for i in range(shards)}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, own in files.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_equals_the_naive_mean(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor, bit for bit; chunks of 1000 elements cut them anywhere."""
    monkeypatch.setattr(run_merge, "CHUNK", 1000)
    summary = merge(models, tmp_path / "mean", [1, 1, 2])
    trees = [load_file(model / "model.safetensors") for model in models]
    merged = load_file(tmp_path / "mean" / "model.safetensors")
    assert merged.keys() == trees[0].keys()
    for name, tensor in merged.items():
        one, two, three = (tree[name].double() for tree in trees)
        assert torch.equal(tensor, (0.25 * one + 0.25 * two + 0.5 * three).to(trees[0][name].dtype)), name
    assert any(not torch.equal(merged[name], trees[0][name]) for name in merged)
    assert summary.parameters == sum(tensor.numel() for tensor in merged.values())


def test_the_mean_is_a_model_that_answers(models: list[Path], tmp_path: Path) -> None:
    """transformers loads it, tied head included, with the tokenizer of the first; its logits are finite."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merge(models, tmp_path / "mean")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "mean")
    ids = AutoTokenizer.from_pretrained(tmp_path / "mean")("2 + 2", return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_provenance_names_inputs_weights_and_checksums(models: list[Path], tmp_path: Path) -> None:
    merge(models[:2], tmp_path / "mean", [3, 1])
    tree = json.loads((tmp_path / "mean" / "merge.json").read_text())
    assert [entry["path"] for entry in tree["inputs"]] == [str(model) for model in models[:2]]
    assert [entry["weight"] for entry in tree["inputs"]] == [0.75, 0.25]
    assert len({entry["checksum"] for entry in tree["inputs"]} | {tree["checksum"]}) == 3
    assert tree["checksum"] == model_checksum(tmp_path / "mean")
    merge(models[:2], tmp_path / "again", [6, 2])
    assert (tmp_path / "again" / "merge.json").read_bytes() == (tmp_path / "mean" / "merge.json").read_bytes()


def test_shards_and_index_of_the_first_are_kept(tmp_path: Path) -> None:
    """Two shards against one; a scalar, an empty tensor and a boolean mask among them."""
    tensors = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "b.weight": torch.tensor(3.0),
        "c.weight": torch.zeros(0, 4),
        "d.mask": torch.tensor([True, False, True]),
    }
    one = write_folder(tmp_path / "one", tensors, shards=2)
    moved = {name: tensor if tensor.dtype == torch.bool else tensor + 2 for name, tensor in tensors.items()}
    two = write_folder(tmp_path / "two", moved)
    merge([one, two], tmp_path / "mean")
    index = json.loads((tmp_path / "mean" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads((one / "model.safetensors.index.json").read_text())["weight_map"]
    merged = {name: load_file(tmp_path / "mean" / file)[name] for name, file in index["weight_map"].items()}
    assert merged["a.weight"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert merged["b.weight"].shape == () and merged["b.weight"].item() == 4.0
    assert merged["c.weight"].shape == (0, 4)
    assert merged["d.mask"].tolist() == [True, False, True]


def test_memory_stays_far_below_the_models(tmp_path: Path) -> None:
    """Three models of 48 tensors of 4 MiB, 576 MiB in all: a process that merges them allocates less than 160 MiB more
    than one that only imported the code. Holding one model would take 192 MiB, and a sum in fp32 384 MiB.

    Anonymous memory alone is looked at: pages of mapped files stay resident for as long as the kernel likes.
    """
    tensors = {f"layer.{i:02d}": torch.full((1024, 2048), float(i)).bfloat16() for i in range(48)}
    folders = [write_folder(tmp_path / str(n), tensors) for n in range(3)]
    script = (
        "import sys, threading; from pathlib import Path; from pangu_rl.loops.pipeline.run_merge import merge\n"
        "def kib(): return int(Path('/proc/self/status').read_text().split('RssAnon:')[1].split()[0])\n"
        "seen, done = [kib()], threading.Event()\n"
        "def watch():\n"
        "    while not done.wait(0.002): seen.append(kib())\n"
        "thread = threading.Thread(target=watch); thread.start()\n"
        "merge([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]))\n"
        "done.set(); thread.join(); assert len(seen) > 20\n"
        "print(max(seen) - seen[0])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "mean"), *map(str, folders)]
    # What an actor's heap is told, tests before this one may have told this process.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 160 * 1024
    [shard] = (tmp_path / "mean").glob("*.safetensors")
    assert torch.equal(load_file(shard)["layer.07"], tensors["layer.07"])


def test_a_failed_merge_leaves_nothing(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", {"a": torch.tensor([1, 2])})
    two = write_folder(tmp_path / "two", {"a": torch.tensor([1, 3])})
    with pytest.raises(DataError, match=r"tensor a: torch.int64 values differ"):
        merge([one, two], tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_output_that_exists_is_left_alone(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        merge(models, tmp_path)


@pytest.mark.parametrize(
    ("other", "config", "message"),
    [
        ({"w": torch.zeros(2, 4)}, {}, r"tensor w has shape \(2, 3\) in .*one and \(2, 4\) in .*two"),
        ({"w": torch.zeros(2, 3).half()}, {}, r"tensor w has dtype F32 in .*one and F16 in .*two"),
        ({"v": torch.zeros(2, 3)}, {}, r"tensor v is in .*two and not in .*one: 1 tensors against 1"),
        ({"w": torch.zeros(2, 3)}, {"hidden_size": 3}, r"hidden_size is 'absent' in .*one/config.json and 3 in .*two"),
    ],
)
def test_other_architectures_are_refused_with_both_values(
    tmp_path: Path, other: dict[str, torch.Tensor], config: dict, message: str
) -> None:
    one = write_folder(tmp_path / "one", {"w": torch.zeros(2, 3)})
    two = write_folder(tmp_path / "two", other, **config)
    with pytest.raises(DataError, match=message):
        merge([one, two], tmp_path / "mean")


def test_a_tied_head_that_differs_is_refused(tmp_path: Path) -> None:
    tied = {"model.embed_tokens.weight": torch.ones(2, 2), "lm_head.weight": torch.ones(2, 2)}
    one = write_folder(tmp_path / "one", tied, tie_word_embeddings=True)
    two = write_folder(tmp_path / "two", tied | {"lm_head.weight": torch.zeros(2, 2)}, tie_word_embeddings=True)
    with pytest.raises(DataError, match=r"two: config.json ties word embeddings, and lm_head.weight differs"):
        merge([one, two], tmp_path / "mean")


def test_another_vocabulary_is_refused_and_other_pixel_limits_are_reported(tmp_path: Path) -> None:
    """MindVL merges runs of different max_pixels; the first folder's processor is taken, and the difference is told."""
    one = build_tiny_vl_model(tmp_path / "one", layers=1)
    two = Path(shutil.copytree(one, tmp_path / "two"))
    processor = json.loads((two / "processor_config.json").read_text())
    (two / "processor_config.json").write_text(json.dumps(processor | {"note": 1}))
    [line] = merge([one, two], tmp_path / "mean").differences
    assert line.startswith("processor_config.json: ") and "two differs from" in line
    assert (tmp_path / "mean" / "processor_config.json").read_bytes() == (one / "processor_config.json").read_bytes()
    tokenizer = json.loads((two / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zzz"] = 99999
    (two / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match=r"model.vocab.zzz is 'absent' in .*one/tokenizer.json and 99999 in .*two"):
        merge([one, two], tmp_path / "mean2")


def test_steps_of_one_run(models: list[Path], tmp_path: Path) -> None:
    for step, model in zip((2, 4, 6), models, strict=True):
        shutil.copytree(model, tmp_path / "run" / "checkpoints" / f"step_{step:06d}" / "hf")
    shutil.copytree(models[0], tmp_path / "run" / "checkpoints" / "step_000004_old" / "hf")
    run = tmp_path / "run"
    assert [path.parent.name for path in model_folders([run])] == ["step_000002", "step_000004", "step_000006"]
    assert [path.parent.name for path in model_folders([run], [6, 2])] == ["step_000006", "step_000002"]
    assert model_folders([run / "checkpoints" / "step_000004", models[0]]) == [
        run / "checkpoints" / "step_000004" / "hf",
        models[0],
    ]
    with pytest.raises(DataError, match="no checkpoint of step 5: it has 2, 4, 6"):
        model_folders([run], [5])
    with pytest.raises(ConfigError, match="no run directory is among the inputs"):
        model_folders([models[0]], [2])


def test_weights_and_numbers_of_models_must_fit(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 weights for 3 models"):
        merge(models, tmp_path / "mean", [1, 1])
    with pytest.raises(ConfigError, match=r"1 model to merge"):
        merge(models[:1], tmp_path / "mean")
    with pytest.raises(ConfigError, match="weights 0, 0, 0"):
        merge(models, tmp_path / "mean", [0, 0, 0])


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_model, "write_shard", full)
    with pytest.raises(RunError, match="mean: No space left on device; nothing was written"):
        merge(models, tmp_path / "out" / "mean")
    assert not list((tmp_path / "out").iterdir())


def test_the_command(models: list[Path], tmp_path: Path) -> None:
    arguments = ["merge", *map(str, models[:2]), "--output", str(tmp_path / "mean"), "--weights", "3,1", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert json.loads(done.stdout) == json.loads((tmp_path / "mean" / "merge.json").read_text())
    with pytest.raises(ConfigError, match="--weights 3;1: expected numbers with commas"):
        CliRunner().invoke(app, [*arguments[:5], "--weights", "3;1"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--steps 20.7: expected whole numbers with commas"):
        CliRunner().invoke(app, [*arguments[:5], "--steps", "20.7"], catch_exceptions=False)
    with pytest.raises(DataError, match="none: no such folder"):
        CliRunner().invoke(app, ["merge", str(tmp_path / "none"), "--output", "x"], catch_exceptions=False)


def write_own_adapter(base: Path, folder: Path, value: float) -> Path:
    """B A of the first query projection is 2 `value` everywhere, and counts once."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.{}.weight"
    sides = {"lora_A": torch.ones(2, 64), "lora_B": torch.full((64, 2), value)}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2.0, "base_model_name_or_path": str(base)}
    write_adapter(folder, config, {name.format(side): tensor for side, tensor in sides.items()}, base)
    return folder


def test_an_adapter_alone_is_folded_and_two_are_averaged(models: list[Path], tmp_path: Path) -> None:
    """W + 2 and W + 4: their mean is W + 3, rounded like them to bfloat16. A model without one may be among them."""
    run = tmp_path / "run" / "checkpoints"
    adapters = [write_own_adapter(models[0], run / f"step_{n:06d}" / "adapter", float(n)) for n in (1, 2)]
    assert model_folders([tmp_path / "run"]) == adapters
    assert model_folders([tmp_path / "run"], [2]) == [adapters[1]] == model_folders([adapters[1].parent])
    summary = merge(adapters[:1], tmp_path / "one")
    assert summary.inputs[0]["base"] == str(models[0]) and summary.inputs[0]["checksum"]
    merge(adapters, tmp_path / "two")
    merge([models[0], adapters[1]], tmp_path / "mixed")
    base = load_file(models[0] / "model.safetensors")
    query = "model.layers.0.self_attn.q_proj.weight"
    for folder, added in (("one", 2), ("two", 3), ("mixed", 2)):
        made = load_file(tmp_path / folder / "model.safetensors")
        torch.testing.assert_close(made[query], base[query] + added, atol=0.02, rtol=0)
        assert all(torch.equal(made[name], base[name]) for name in base if name != query)
    assert (tmp_path / "one" / "tokenizer.json").is_file()


def test_one_model_alone_is_no_mean(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 model to merge: name two or more.*or an adapter"):
        merge(models[:1], tmp_path / "mean")
