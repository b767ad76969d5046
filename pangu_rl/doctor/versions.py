"""Installed packages against the lock of this kind of machine, and builds that break each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pangu_rl.accelerators import get_accelerator
from pangu_rl.monitoring.findings import Finding

PROJECT = "pangu-rl"
LOCKS = Path(__file__).parents[2] / "requirements"
STRAYS = ("torchvision", "torchaudio", "torchcodec")
"""Their builds for a GPU break a torch for the CPU, and with it transformers and vLLM."""
MADE_HERE = "cpu"
"""The extra whose lock `make setup` installs; an image is made from the others."""
_SHOWN = 6


def check_python() -> Iterator[Finding]:
    here = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata(PROJECT)["Requires-Python"]
    if here in SpecifierSet(wanted):
        yield Finding(check="python", status="ok", detail=f"{here}, {PROJECT} {metadata.version(PROJECT)}")
    else:
        mend = f"make the environment with a Python {wanted}"
        yield Finding(check="python", status="fail", detail=f"{here}, wanted {wanted}", mend=mend)


def check_packages() -> Iterator[Finding]:
    """Against the lock where this kind of machine has one, else against the extra of pyproject.toml."""
    extra = get_accelerator().extra
    lock = LOCKS / f"{extra}.lock"
    if lock.is_file():
        wanted, source = locked(lock.read_text(encoding="utf-8")), f"requirements/{lock.name}"
        made = f"make setup, or pip install --no-deps -r {lock}"
        mend = made if extra == MADE_HERE else f"docker/{extra}.Dockerfile installs them; its base image has the rest"
    else:
        wanted, source, mend = declared(extra), f"the extra {extra}", f"pip install '{PROJECT}[{extra}]'"
    yield from compare(wanted, installed(), stack_of(extra), source, mend)


def compare(
    wanted: dict[str, SpecifierSet], found: dict[str, str], stack: Collection[str], source: str, mend: str
) -> Iterator[Finding]:
    """`wanted` name -> versions that fit; `found` name -> version. A difference in the `stack` fails, others warn."""
    missing = {name: "missing" for name in wanted if name not in found}
    other = {n: found[n] for n, fits in wanted.items() if n in found and not fits.contains(found[n], prereleases=True)}
    wrong = missing | other
    for status, names in (
        ("fail", [name for name in wrong if name in stack]),
        ("warn", [name for name in wrong if name not in stack]),
    ):
        if names:
            shown = ", ".join(f"{name} {wrong[name]} (wanted {wanted[name]})" for name in names[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield Finding(check="packages", status=status, detail=f"not as in {source}: {shown}{more}", mend=mend)
    if not wrong:
        named = ", ".join(f"{name} {found[name]}" for name in sorted(stack) if name in wanted)
        yield Finding(check="packages", status="ok", detail=f"{len(wanted)} as in {source}: {named}")


def check_stray_builds() -> Iterator[Finding]:
    """Only where they are installed; whether they import is tried in a process of its own."""
    found = installed()
    for name in (name for name in STRAYS if name in found):
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:160]
            yield Finding(
                check="packages",
                status="fail",
                detail=f"{name} {found[name]} does not import beside torch {found.get('torch', 'missing')}: {reason}",
                mend=f"pip uninstall {name}: nothing here needs it, and transformers and vLLM import it if it is there",
            )


def locked(text: str) -> dict[str, SpecifierSet]:
    """Name -> the exact version, of a lock's lines `name==version --hash=...`; a label such as +cpu does not count."""
    lines = (re.split(r"#|;| --hash", line)[0].strip() for line in text.splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {canonical(name): SpecifierSet(f"=={version.strip()}") for name, _, version in pairs}


def declared(extra: str) -> dict[str, SpecifierSet]:
    """Name -> versions that pyproject.toml takes, for this project with one extra."""
    found = {}
    for line in metadata.requires(PROJECT) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found[canonical(requirement.name)] = requirement.specifier
    return found


def stack_of(extra: str) -> set[str]:
    """What the extra alone asks for: torch, vLLM, DeepSpeed, Ray and their kind."""
    return set(declared(extra)) - set(declared(""))


def installed() -> dict[str, str]:
    """Name -> version of everything installed."""
    return {canonical(one.metadata["Name"]): one.version for one in metadata.distributions() if one.metadata["Name"]}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.split("[")[0].strip()).lower()
