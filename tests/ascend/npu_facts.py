"""What torch-npu's wheels say of the operators that we call, and of what they need: wheels -> **facts**.

`npu_facts.json` keeps them, so that the calls are checked where no wheel is; `python -m tests.ascend` compares the
table with the wheels.
"""

from __future__ import annotations

import json
import zipfile
from email.parser import Parser
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.ascend.npu_calls import Call, npu_calls
from tests.contracts.source_tree import parse, sources

TABLE = Path(__file__).with_name("npu_facts.json")
PIN, LIVE = "torch-npu 2.10.0.post4", "torch-npu 2.13.0"
"""The release of the extra `ascend`, and the one whose torch the CPU environment has."""
NATIVE = "torch_npu/csrc/aten/npu_native_functions_by_codegen.yaml"


def table() -> dict[str, dict[str, Any]]:
    """Release -> `schemas` (operator -> schema), `requires` (its dependencies) and `python`."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


@lru_cache
def our_calls() -> tuple[tuple[Path, Call], ...]:
    """The product's calls of torch-npu's operators, and the files that they stand in."""
    files = [path for path in sources() if "npu_" in path.read_text(encoding="utf-8")]
    return tuple((path, call) for path in files for call in npu_calls(parse(path)))


def called() -> set[str]:
    """Operators of torch-npu that the product calls."""
    return {call.name for _, call in our_calls()}


def facts(wheel: Path) -> dict[str, Any]:
    """The row of a release: of torch-npu, or of another wheel, which has no schemas."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(archive.read(metadata).decode(), headersonly=True)
        row: dict[str, Any] = {"requires": said.get_all("Requires-Dist") or [], "python": said["Requires-Python"]}
        if NATIVE in archive.namelist():
            known = schemas(archive)
            row["schemas"] = {name: known[name] for name in sorted(called() & known.keys())}
    return row


def schemas(archive: zipfile.ZipFile) -> dict[str, str]:
    """Every operator of torch-npu's own, without its overloads."""
    entries = yaml.load(archive.read(NATIVE), Loader=yaml.CSafeLoader)["custom"]
    found = {}
    for entry in entries:
        schema = entry["func"].removeprefix("npu::")
        found.setdefault(schema.partition("(")[0], schema)
    return dict(sorted(found.items()))


def kernels(archive: zipfile.ZipFile) -> set[str]:
    """Operators, with their overloads, that have a kernel for NPUs."""
    rows = yaml.load(archive.read(NATIVE), Loader=yaml.CSafeLoader)
    entries = [
        entry if isinstance(entry, str) else entry["func"] for part in ("supported", "custom") for entry in rows[part]
    ]
    return {entry.partition("(")[0].removeprefix("npu::").removeprefix("aten::") for entry in entries}


if __name__ == "__main__":
    from tests.ascend.wheels import wheel

    rows = {release: facts(wheel(release.replace(" ", "=="))) for release in table()}
    TABLE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
