"""What an Ascend machine tells, from files and tables as its driver, CANN and npu-smi write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.accelerators import npu_host
from pangu_rl.accelerators.npu_host import Npu, examine, listed_npus

A2 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.5.1                   Version: 25.5.1                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 101.8       43                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3318 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | OK            | 92.0        39                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3314 / 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
| 1       0                 | 19341         | python                   | 58472                   |
+===========================+===============+====================================================+
"""
A3 = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     Ascend910           | OK            | 163.4       37                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3134 / 65536         |
| 0     Ascend910           | OK            | -           36                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          2890 / 65536         |
"""
TOOLKIT = """\
package_name=Ascend-cann-toolkit
version={version}
innerversion=V100R001C23SPC001B231
compatible_version=[V100R001C15],[V100R001C18]
arch=aarch64
os=linux
"""
DRIVER = "Version={version}\nascendhal_version=7.35.23\naicpu_version=1.0\npackage_version={version}\n"


class Machine:
    """Files below a folder, in the places where the examination looks."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dev, self.ascend, self.bin = root / "dev", root / "Ascend", root / "bin"
        self.cann = self.ascend / "ascend-toolkit" / "latest"
        self.env = {"ASCEND_HOME_PATH": str(self.cann), "ATB_HOME_PATH": str(self.ascend / "nnal")}
        self.dev.mkdir()
        monkeypatch.setattr(npu_host, "DEV", self.dev)
        monkeypatch.setattr(npu_host, "ASCEND", self.ascend)
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sound(self, devices: int = 2, cann: str = "9.1.0", driver: str = "26.0.rc1", table: str = A2) -> Machine:
        for index in range(devices):
            self.write(self.dev / f"davinci{index}", "")
        self.write(self.dev / "davinci_manager", "")
        self.write(self.ascend / "driver" / "version.info", DRIVER.format(version=driver))
        self.write(self.cann / "aarch64-linux" / "ascend_toolkit_install.info", TOOLKIT.format(version=cann))
        self.write(self.cann / "lib64" / "libhccl.so", "")
        self.write(self.bin / "npu-smi", f"#!/bin/sh\ncat <<'TABLE'\n{table}TABLE\n")
        (self.bin / "npu-smi").chmod(0o755)
        return self

    def remarks(self, **variables: str) -> dict[str, tuple[str, str]]:
        """Check -> status and detail of what is not ok; each has a mend."""
        found = [remark for remark in examine(self.env | variables) if remark.status != "ok"]
        assert all(remark.mend and "\n" not in remark.detail + remark.mend for remark in found)
        return {remark.check: (remark.status, remark.detail) for remark in found}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_nothing_is_said_of_a_machine_without_npus(machine):
    machine.env = {"TASK_QUEUE_ENABLE": "9"}
    assert not list(examine(machine.env))


def test_a_sound_machine(machine):
    assert machine.sound().remarks() == {}
    told = {remark.check: remark.detail for remark in examine(machine.env)}
    assert told["driver"] == "26.0.rc1"
    assert told["cann"] == f"9.1.0 in {machine.cann}"
    assert told["memory"] == f"2 NPUs of 64 GiB, free; 2 of them in {machine.dev}"


def test_tables_of_npu_smi():
    assert listed_npus(A2) == [Npu(0, "OK", 3318, 65536), Npu(1, "OK", 3314, 65536)]
    assert listed_npus(A3) == [Npu(0, "OK", 3134, 65536), Npu(0, "OK", 2890, 65536)]
    assert listed_npus("dcmi module initialize failed. ret is -8005") == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.2.RC1", ("fail", "8.2.RC1 in {root} is too old: attention's softmax_layout came with 8.3.RC1")),
        ("8.0.T6", ("fail", "8.0.T6 in {root} is too old: attention's softmax_layout came with 8.3.RC1")),
        ("8.3.RC1", ("warn", "8.3.RC1 in {root}, and vllm-ascend 0.23 is delivered with 9.1")),
        ("8.5.0", ("warn", "8.5.0 in {root}, and vllm-ascend 0.23 is delivered with 9.1")),
        ("9.1.0", None),
        ("9.2.0-beta.2", None),
        ("10.0.0", None),
    ],
)
def test_versions_of_cann(machine, version, expected):
    found = machine.sound(cann=version).remarks().get("cann")
    assert found == (expected and (expected[0], expected[1].format(root=machine.cann)))


def test_what_is_missing(machine):
    machine.sound()
    (machine.cann / "lib64" / "libhccl.so").unlink()
    (machine.ascend / "driver" / "version.info").unlink()
    (machine.bin / "npu-smi").unlink()
    machine.env = {}
    found = machine.remarks()
    assert found["hccl"] == ("fail", f"no libhccl.so in {machine.cann}/lib64")
    assert found["driver"] == ("fail", f"no version in {machine.ascend}/driver/version.info")
    assert found["npu-smi"] == ("warn", "npu-smi is not on the PATH: health and memory are not known")
    assert found["cann"][1] == "ASCEND_HOME_PATH is not set, so that torch-npu finds no library of CANN"
    assert found["nnal"][0] == "fail"


def test_a_container_that_was_given_no_devices(machine):
    assert machine.sound(devices=0).remarks()["driver"] == ("fail", f"CANN is here, and no {machine.dev}/davinci0")


def test_devices_without_cann(machine):
    machine.write(machine.dev / "davinci0", "")
    machine.env = {}
    assert machine.remarks()["cann"] == ("fail", f"none in {machine.ascend}, and ASCEND_HOME_PATH is not set")


def test_an_old_driver(machine):
    status, detail = machine.sound(driver="25.0.rc1.1").remarks()["driver"]
    assert status == "warn" and detail.startswith("25.0.rc1.1, older than the 26.0")


@pytest.mark.parametrize(
    ("visible", "says"),
    [
        ("0,1", None),
        ("1", None),
        ("0,2", "2 devices are here, and 2 is none of 0 to 1"),
        ("0,0", "a number comes twice"),
        ("npu0", "no list of numbers such as 0,1"),
        ("", "no list of numbers such as 0,1"),
    ],
)
def test_visible_devices(machine, visible, says):
    found = machine.sound().remarks(ASCEND_RT_VISIBLE_DEVICES=visible).get("visible devices")
    assert found == (says and ("fail", f"ASCEND_RT_VISIBLE_DEVICES is {visible!r}: {says}"))


def test_npus_that_are_ill_or_taken(machine):
    table = A2.replace("| OK            | 92.0", "| Alarm         | 92.0").replace("3318 / 65536", "59356/ 65536")
    found = machine.sound(table=table).remarks()
    assert found["health"] == ("fail", "NPU 1: Alarm")
    assert found["memory"] == ("warn", "NPU 0: 58.0 of 64 GiB are taken")


def test_a_driver_that_does_not_answer(machine):
    machine.sound(table="dcmi module initialize failed. ret is -8005\n")
    status, detail = machine.remarks()["npu-smi"]
    assert status == "warn" and "ret is -8005" in detail


def test_variables_that_contradict_each_other(machine):
    machine.sound()
    variables = {"HCCL_IF_BASE_PORT": "50000", "VLLM_ASCEND_ENABLE_NZ": "1"}
    found = [remark.detail for remark in examine(machine.env | variables) if remark.check == "variables"]
    assert len(found) == 2, "each once, though both roles have the first"
    assert found[0].startswith("HCCL_HOST_SOCKET_PORT_RANGE is auto and goes before HCCL_IF_BASE_PORT")
    assert found[1].startswith("VLLM_ASCEND_ENABLE_NZ is 1")
