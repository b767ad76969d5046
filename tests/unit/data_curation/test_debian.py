"""A made-up Debian package: what is wanted comes out, what climbs or links does not, and a failure leaves nothing."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from data_curation.sources import debian
from data_curation.sources.debian import extract, unpacked
from pangu_rl.errors import DataError

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def package(path: Path, data: bytes) -> Path:
    """A .deb by hand (deb(5)): an `ar` of version, control and data; dpkg-deb would not pack a name that climbs."""
    control = tar_of({"./control": b"Package: stamps\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\n"})
    parts = (("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.gz", data))
    content = b"!<arch>\n"
    for name, part in parts:
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
        )
    path.write_bytes(content)
    return path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_only_wanted_files_come_out(tmp_path: Path) -> None:
    files = {"./usr/share/stamps/a.png": b"1", "./usr/share/stamps/a.ogg": b"2", "./usr/share/doc/a.png": b"3"}
    archive = package(tmp_path / "a.deb", tar_of(files))
    extract(archive, ("*/stamps/*.png",), tmp_path / "out")
    assert names(tmp_path / "out") == {"usr/share/stamps/a.png"}


def test_a_name_that_climbs_is_refused(tmp_path: Path) -> None:
    archive = package(tmp_path / "a.deb", tar_of({"./usr/a.png": b"1", "./../../evil.png": b"2"}))
    with pytest.raises(DataError, match=r"a\.deb cannot be unpacked: .*evil"):
        extract(archive, ("*.png",), tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.png"))


def test_links_are_left_out(tmp_path: Path) -> None:
    archive = package(tmp_path / "a.deb", tar_of({"./usr/a.png": b"1"}, {"./usr/b.png": "/etc/passwd"}))
    extract(archive, ("*.png",), tmp_path / "out")
    assert names(tmp_path / "out") == {"usr/a.png"}


def test_what_is_no_package_or_holds_nothing_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.deb").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"b\.deb"):
        extract(tmp_path / "b.deb", ("*.png",), tmp_path / "out")
    archive = package(tmp_path / "a.deb", tar_of({"./usr/a.txt": b"1"}))
    with pytest.raises(DataError, match=r"a\.deb holds no file \*\.png or \*\.jpg"):
        extract(archive, ("*.png", "*.jpg"), tmp_path / "out")


def test_a_fetched_package_is_kept_with_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = package(tmp_path / "stamps_1_all.deb", tar_of({"./usr/a.png": b"1"}))
    calls: list[list[str]] = []

    def fetch(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        shutil.copy(archive, Path(str(kwargs["cwd"])) / archive.name)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(debian.subprocess, "run", fetch)
    folder = unpacked("stamps", ("*.png",), tmp_path / "home")
    assert unpacked("stamps", ("*.png",), tmp_path / "home") == folder and len(calls) == 1
    assert names(folder) == {"usr/a.png", "package.json"}
    record = json.loads((folder / "package.json").read_text())
    assert record["file"] == "stamps_1_all.deb" and len(record["sha256"]) == 64


def test_a_failed_fetch_leaves_nothing_and_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        tried.append(command[-1])
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package stamps\n")

    monkeypatch.setattr(debian.subprocess, "run", fail)
    with pytest.raises(DataError, match="Debian package stamps: apt-get: E: Unable to locate package stamps"):
        unpacked("stamps", ("*.png",), tmp_path / "home")
    assert tried == ["stamps", "update"], "its own lists are tried after the machine's"
    assert not (tmp_path / "home" / "stamps").exists()


def test_without_apt_the_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="has no apt-get"):
        unpacked("stamps", ("*.png",), tmp_path / "home")
