"""A checkpoint exists whole or not at all: killed at every write and rename, corrupted in every way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pangu_rl.checkpoint import CheckpointStore, manifest, run_lock
from pangu_rl.checkpoint.manifest import Entry, check_files, check_quickly, entries_of
from pangu_rl.checkpoint.store import check_model
from pangu_rl.errors import CheckpointError, ConfigError

SAVE = """
import os, signal, sys
from pathlib import Path
from pangu_rl.checkpoint import CheckpointStore

countdown = int(sys.argv[3])

def killing(function):
    def wrapped(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

os.fsync, os.replace = killing(os.fsync), killing(os.replace)
os.unlink, os.rmdir = killing(os.unlink), killing(os.rmdir)
store = CheckpointStore(Path(sys.argv[1]), keep=2)
partial = store.begin(int(sys.argv[2]))
(partial / "optimizer").mkdir()
(partial / "weights.safetensors").write_bytes(b"w" * 1000)
(partial / "optimizer" / "rank_0.pt").write_bytes(b"o" * 1000)
store.commit(int(sys.argv[2]), {"step": int(sys.argv[2])}, {})
"""


def save(store: CheckpointStore, step: int, content: bytes = b"weights") -> Path:
    partial = store.begin(step)
    (partial / "optimizer").mkdir()
    (partial / "weights.safetensors").write_bytes(content)
    (partial / "optimizer" / "rank_0.pt").write_bytes(b"moments of " + content)
    return store.commit(step, {"position": step * 8, "rng": [1, 2, 3]}, {}).path


def test_a_checkpoint_comes_back_with_its_state(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    assert store.latest() is None
    save(store, 3)
    found = store.latest()
    assert (found.step, found.state) == (3, {"position": 24, "rng": [1, 2, 3]})
    assert found.path == tmp_path / "checkpoints" / "step_000003"
    assert (found.path / "optimizer" / "rank_0.pt").read_bytes() == b"moments of weights"


def test_the_newest_k_are_kept_and_order_is_by_number(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in (9, 10, 999_999, 1_000_000):
        save(store, step)
    assert sorted(p.name for p in store.directory.iterdir()) == ["step_1000000", "step_999999"]
    assert store.latest().step == 1_000_000


def test_named_steps_are_kept_beside_the_newest(tmp_path):
    """Of 1 to 5, the newest two and 2; 9 has not come yet."""
    store = CheckpointStore(tmp_path, keep=2, keep_steps=(2, 9))
    for step in range(1, 6):
        save(store, step)
    assert sorted(path.name for path in store.directory.iterdir()) == ["step_000002", "step_000004", "step_000005"]


def test_killed_at_every_write_and_rename_the_one_before_or_the_new_one_loads(tmp_path):
    """SIGKILL at the n-th fsync, rename or removal, for every n until the save gets through."""
    seen = set()
    for countdown in range(1, 60):
        run_dir = tmp_path / str(countdown)
        store = CheckpointStore(run_dir, keep=2)
        for step in (1, 2):
            save(store, step)
        command = [sys.executable, "-c", SAVE, str(run_dir), "3", str(countdown)]
        code = subprocess.run(command, check=False).returncode
        newest = store.latest()
        seen.add((code, newest.step))
        assert newest.step in (2, 3)
        # The next attempt needs no hand work and leaves nothing behind.
        save(store, 4)
        assert sorted(p.name for p in store.directory.iterdir()) == [f"step_{newest.step:06d}", "step_000004"]
        if code == 0:
            break
    assert seen == {(-9, 2), (-9, 3), (0, 3)}
    assert countdown > 15


def test_a_partial_folder_is_ignored_and_named(tmp_path, caplog):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    (store.begin(2) / "weights.safetensors").write_bytes(b"half")
    assert store.latest().step == 1
    assert ".partial-step_000002 was never finished" in caplog.text


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer/rank_0.pt", "state.json", "manifest.json", "COMPLETE"]
)
def test_a_damaged_file_is_named_and_nothing_is_loaded(tmp_path, damage, name):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    newest = save(store, 2)
    damage(newest / name)
    culprit = "manifest.json" if name == "COMPLETE" and damage is not Path.unlink else name
    with pytest.raises(CheckpointError, match="corrupt checkpoint") as caught:
        store.latest()
    assert str(newest / culprit) in str(caught.value)
    assert f"delete {newest} to go on from step 1" in str(caught.value)
    shutil.rmtree(newest)
    assert store.latest().step == 1


def test_a_step_that_was_renamed_is_refused(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 3).rename(store.directory / "step_000007")
    with pytest.raises(CheckpointError, match="was made as the checkpoint of step 3 and is named as that of 7"):
        store.latest()


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_what_small_files_and_sizes_tell_is_seen_without_reading_the_large(tmp_path, damage, monkeypatch):
    """Before anything is started. A changed byte of a large file is found by the ranks, which hash them together."""
    monkeypatch.setattr(manifest, "SMALL_BYTES", 1000)
    store = CheckpointStore(tmp_path, keep=2)
    newest = save(store, 1, b"w" * 5000)
    assert store.latest(check_quickly).step == 1
    damage(newest / "weights.safetensors")
    if damage is flip:
        assert store.latest(check_quickly).step == 1
        damage(newest / "state.json")
    with pytest.raises(CheckpointError, match="corrupt checkpoint"):
        store.latest(check_quickly)


def test_the_only_checkpoint_corrupt_means_start_anew(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    flip(save(store, 5) / "weights.safetensors")
    with pytest.raises(CheckpointError, match="to start anew"):
        store.latest()


def test_a_file_nobody_vouched_for_is_refused(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    (save(store, 1) / "planted.pt").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"planted\.pt is not in the manifest"):
        store.latest()


@pytest.mark.parametrize("name", ["../outside.pt", "/etc/passwd", "optimizer/../../outside.pt", "..\\outside.pt"])
def test_a_manifest_that_leaves_its_folder_is_refused(tmp_path, name):
    import hashlib

    store = CheckpointStore(tmp_path, keep=2)
    path = save(store, 1)
    listing = json.loads((path / "manifest.json").read_text())
    listing["files"][name] = {"size": 1, "sha256": "00"}
    text = json.dumps(listing)
    (path / "manifest.json").write_text(text)
    (path / "COMPLETE").write_text(hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(CheckpointError, match="leaves the folder"):
        store.latest()


def test_links_are_refused_on_both_sides(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    partial = store.begin(1)
    (partial / "weights.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="is a link"):
        store.commit(1, {}, {})
    path = save(store, 2)
    (path / "weights.safetensors").unlink()
    (path / "weights.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="is a link"):
        store.latest()


def test_a_full_disk_names_the_path_and_leaves_the_one_before(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    partial = store.begin(2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"step_000002: No space left on device \([\d,]+ bytes free\); make room"):
        store.commit(2, {}, {})
    assert partial.exists()
    assert store.latest().step == 1


def test_room_for_one_as_large_as_the_newest_is_asked_for_before(tmp_path, monkeypatch):
    """The newest has the weights' 1,000 bytes, some more of moments, state and manifest."""
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1, b"w" * 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2000))
    with pytest.raises(CheckpointError, match=r"step 2 needs some 2,\d\d\d bytes and 2,000 are free; make room"):
        store.begin(2)
    assert [path.name for path in store.directory.iterdir()] == ["step_000001"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3000))
    store.begin(2)


def test_a_start_removes_what_was_never_finished(tmp_path, caplog):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    (store.begin(2) / "weights.safetensors").write_bytes(b"half")
    (store.begin(3) / "weights.safetensors").write_bytes(b"half")
    store.discard_unfinished()
    assert [path.name for path in store.directory.iterdir()] == ["step_000001"]
    assert ".partial-step_000002 was never finished and is removed" in caplog.text


def test_beginning_a_step_that_exists_is_refused(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    with pytest.raises(CheckpointError, match="step_000001 exists already"):
        store.begin(1)


def begin_of_two_ranks(store: CheckpointStore, step: int) -> tuple[Path, dict[str, Entry]]:
    """A folder with a file of each rank, what they say of them, and a file that the driver has to read itself."""
    partial = store.begin(step)
    for rank in range(2):
        (partial / f"rank_{rank}.pt").write_bytes(b"moments of %d" % rank)
    written = {name: replace(entry, rank=int(name[5])) for name, entry in entries_of(partial, {}).items()}
    (partial / "script.py").write_text("pass")
    return partial, written


def test_what_ranks_have_hashed_is_not_read_again(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, keep=2)
    _, written = begin_of_two_ranks(store, 1)
    opened = []
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *args, **kwargs: opened.append(path.name) or real(path, *args, **kwargs)
    )
    path = store.commit(1, {}, written).path
    assert "script.py" in opened and not {"rank_0.pt", "rank_1.pt"} & set(opened)
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert {name: entry.get("rank") for name, entry in files.items()} == {
        "rank_0.pt": 0,
        "rank_1.pt": 1,
        "script.py": None,
        "state.json": None,
    }
    monkeypatch.undo()
    assert store.latest().path == path


def test_a_checkpoint_without_a_rank_s_file_is_not_sealed(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    partial, written = begin_of_two_ranks(store, 2)
    (partial / "rank_1.pt").unlink()
    with pytest.raises(CheckpointError, match=r"rank 1's file rank_1\.pt is not in .*: the run directory"):
        store.commit(2, {}, written)
    partial, written = begin_of_two_ranks(store, 2)
    truncate(partial / "rank_0.pt")
    with pytest.raises(CheckpointError, match=r"rank_0\.pt has 11 bytes, rank 0 wrote 12"):
        store.commit(2, {}, written)
    assert store.latest().step == 1


def test_others_may_check_the_content_but_not_what_is_there(tmp_path):
    """The learner ranks hash the files; missing and foreign ones are found before they are asked."""
    store = CheckpointStore(tmp_path, keep=2)
    _, written = begin_of_two_ranks(store, 1)
    path = store.commit(1, {}, written).path
    asked = []

    def check(folder, entries):
        asked.append(entries)
        check_files(folder, entries)

    assert store.latest(check).step == 1
    [entries] = asked
    assert entries["rank_1.pt"] == written["rank_1.pt"] and entries["state.json"].rank is None
    flip(path / "rank_1.pt")
    with pytest.raises(CheckpointError, match=r"corrupt checkpoint: .*rank_1\.pt has sha256"):
        store.latest(check)
    (path / "rank_1.pt").unlink()
    with pytest.raises(CheckpointError, match=r"corrupt checkpoint: .*rank_1\.pt is missing"):
        store.latest(check)
    assert len(asked) == 2


def test_who_reads_the_model_alone_verifies_the_model_alone(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    partial = store.begin(1)
    for folder in ("learner", "hf"):
        (partial / folder).mkdir()
        (partial / folder / "weights").write_bytes(folder.encode() * 10)
    path = store.commit(1, {}, {}).path
    flip(path / "learner/weights")
    assert store.latest(check_model).path == path
    with pytest.raises(CheckpointError, match="learner/weights has sha256"):
        store.latest()
    flip(path / "hf/weights")
    with pytest.raises(CheckpointError, match="hf/weights has sha256"):
        store.latest(check_model)


HOLD = """
import sys, time
from pangu_rl.checkpoint import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"in use by process {first.pid} on "), run_lock(tmp_path):
            pass
    finally:
        first.kill()
        first.wait()
    with run_lock(tmp_path):
        pass


def test_an_old_checkpoint_that_cannot_be_removed_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS a folder in which another process has a file open cannot be removed; the next time it can."""
    store = CheckpointStore(tmp_path, keep=1)
    save(store, 1)

    def refuse(path: object, **_: object) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refuse)
        save(store, 2)
    assert store.latest().step == 2
    save(store, 3)
    assert sorted(path.name for path in store.directory.iterdir()) == ["step_000003"]
