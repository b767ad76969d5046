"""Files out of Debian packages, on any machine with apt: fetched by apt-get, checked by its signatures, unpacked by us.

Nothing is installed and no root is needed. Name of a package -> **folder with the wanted files and `package.json`**.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from data_curation.sources.folders import whole_folder
from pangu_rl.errors import DataError

RECORD = "package.json"
TIMEOUT_S = 600


def unpacked(package: str, wanted: Sequence[str], home: Path) -> Path:
    """The folder `home/package` with the package's files that match a pattern of `wanted`; fetched if not there yet.

    Raises:
        DataError: no apt on this machine, no such package, or nothing in it matches.
    """
    directory = home / package
    if (directory / RECORD).is_file():
        return directory
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError(f"Debian package {package}: this machine has no apt-get and dpkg-deb")
    with whole_folder(directory) as folder:
        archive = _download(package, folder / "download")
        extract(archive, wanted, folder)
        record = {"file": archive.name, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
        (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "download")
    return directory


def extract(archive: Path, wanted: Sequence[str], folder: Path) -> None:
    """Unpack the files of a .deb that match; links, devices and names that leave `folder` are refused.

    Raises:
        DataError: no .deb, or nothing in it matches.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    found = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and any(fnmatch(member.name.removeprefix("./"), name) for name in wanted):
                        tar.extract(member, folder, filter="data")
                        found += 1
        except tarfile.TarError as error:
            process.kill()
            raise DataError(f"{archive.name} cannot be unpacked: {error}") from None
    if not found:
        raise DataError(f"{archive.name} holds no file {' or '.join(wanted)}")


def _download(package: str, folder: Path) -> Path:
    """By the machine's own package lists, or, where those are missing or old, by fresh ones in `folder`."""
    folder.mkdir()
    lists = folder / "apt"
    (lists / "lists" / "partial").mkdir(parents=True)
    (lists / "cache" / "archives" / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::lists={lists / 'lists'}", "-o", f"Dir::Cache={lists / 'cache'}"]
    for steps in ([["download", package]], [[*own, "update"], [*own, "download", package]]):
        failed = next((text for step in steps if (text := _apt(step, folder))), None)
        if failed is None:
            return next(folder.glob("*.deb"))
    raise DataError(f"Debian package {package}: apt-get: {failed}")


def _apt(arguments: Sequence[str], folder: Path) -> str | None:
    """What apt-get complains of, in one line; None if it does not."""
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"{arguments[-1]} took longer than {TIMEOUT_S} s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]
