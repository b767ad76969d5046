"""What set-up installs has the hashes of its files in a lock, and no step of it may fail unseen."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts.source_tree import ROOT

LOCKS = sorted(path.name for path in (ROOT / "requirements").glob("*.lock"))
LINE = re.compile(r"[\w.-]+==[\w.!]+(?: --hash=sha256:[0-9a-f]{64})+")


def bare(text: str) -> list[str]:
    """Lines of a lock that would be installed without a hash."""
    installed = text.rpartition("# Installed.\n")[2].splitlines()
    return [line for line in installed if line and not line.startswith("#") and not LINE.fullmatch(line)]


def installs(text: str) -> list[str]:
    """Commands of a Makefile or a Docker file that install from a lock, continued lines as one."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if re.search(r"(pip install|\$\(PIP\)|\$\(HASHED\)).* -r ", line)]


def test_every_line_has_hashes():
    assert LOCKS == ["ascend.lock", "browser.lock", "build.lock", "cpu.lock", "docs.lock"]
    for name in LOCKS:
        assert not bare((ROOT / "requirements" / name).read_text(encoding="utf-8"))


def test_every_install_from_a_lock_asks_for_them_and_may_fail():
    for file in ("Makefile", "docker/ascend.Dockerfile"):
        text = (ROOT / file).read_text(encoding="utf-8")
        commands = installs(text)
        assert commands
        for command in commands:
            assert "--require-hashes" in command or "$(HASHED)" in command, command
            assert "||" not in command, command
    assert "HASHED := $(PIP) --require-hashes" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_torch_has_a_hash_per_python_and_none_of_a_cuda_build():
    """With one that the index knows pip takes it, and a machine without CUDA has a torch that does not load."""
    line = next(line for line in (ROOT / "requirements/cpu.lock").read_text().splitlines() if line[:7] == "torch==")
    of_pypi = {"60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
               "796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b"}  # fmt: skip
    hashes = set(re.findall("[0-9a-f]{64}", line))
    assert len(hashes) == 2 and not hashes & of_pypi


def test_the_check_itself():
    assert bare("a==1\n") == ["a==1"] and bare(f"a==1 --hash=sha256:{'0' * 63}\n")
    assert not bare(f"a==1\n# Installed.\nb==2 --hash=sha256:{'0' * 64}\n")
    assert installs("x:\n\tuv pip install \\\n\t  -r a.lock || true\n") == ["\tuv pip install  \t  -r a.lock || true"]


@pytest.mark.slow
def test_a_file_of_another_hash_is_refused_by_name(tmp_path: Path):
    """`make setup` of a folder whose first lock has one digit changed in each hash of `wheel`."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "Makefile", tmp_path)
    lock = tmp_path / "requirements/build.lock"
    sound = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(r"(?m)^wheel==.*", lambda line: re.sub("sha256:.", "sha256:e", line[0]), sound))
    assert lock.read_text(encoding="utf-8") != sound
    done = subprocess.run(["make", ".venv/.packages"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in said and "wheel" in said
    assert not (tmp_path / ".venv/.packages").exists()
