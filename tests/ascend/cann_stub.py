"""Stand-ins for CANN's libraries, so that the real torch-npu can be imported where there is no CANN and no NPU.

Every entry point answers 0, which is success, and computes nothing: schemas, shapes and dispatch are torch-npu's own,
numbers there are none. `STUB_NPU_COUNT` is how many devices `torch.npu.device_count()` finds. The names are read out of
the wheel's own libraries, so that a new release needs no new list.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

LIBRARIES = ("libge_runner", "libgraph", "libacl_tdt_channel")
"""Linked against, and empty of anything that is called."""
ENTRY = re.compile(r"(acl|rt|Hccl|hccl|Msprof)[A-Z]\w*|acl(rt|op|mdl|tdt|nn)[A-Z]\w*")

HEAD = "#include <stdlib.h>\n#include <string.h>\nstatic long here[64];\nstatic __thread int current;\n"
ANSWERS = {
    "aclrtGetDeviceCount": '(unsigned *n) { char *e = getenv("STUB_NPU_COUNT"); *n = e ? atoi(e) : 0; return 0; }',
    "aclrtGetDevice": "(int *d) { *d = current; return 0; }",
    "aclrtSetDevice": "(int d) { current = d; return 0; }",
    "aclrtGetCurrentContext": "(void **c) { *c = here; return 0; }",
    "aclrtCreateStream": "(void **s) { *s = here; return 0; }",
    "aclrtCreateStreamWithConfig": "(void **s, unsigned p, unsigned f) { *s = here; return 0; }",
    "aclrtCreateEventExWithFlag": "(void **e, unsigned f) { *e = here; return 0; }",
    "aclrtGetMemInfo": "(int a, unsigned long *f, unsigned long *t) { *f = *t = 64ul << 30; return 0; }",
    "aclrtMallocHost": "(void **p, unsigned long n) { *p = malloc(n); return 0; }",
    "aclrtMallocHostWithCfg": "(void **p, unsigned long n, void *c) { *p = malloc(n); return 0; }",
    "aclrtFreeHost": "(void *p) { free(p); return 0; }",
    "aclrtGetSysParamOpt": "(int o, long *v) { *v = 0; return 0; }",
    "aclrtCtxGetSysParamOpt": "(int o, long *v) { *v = 0; return 0; }",
    "aclGetCompileoptSize": "(int o) { return 16; }",
    # Whether weights may lie in memory in internal formats.
    "aclGetCompileopt": '(int o, char *v, unsigned long n) { memset(v, 0, n); strcpy(v, "disable"); return 0; }',
    "aclrtGetSocName": '(void) { return (long)"Ascend910B1"; }',
    "aclGetRecentErrMsg": '(void) { return (long)"no CANN: a stand-in"; }',
}
"""Entry points whose answer is read."""


def build_stub(package: Path, folder: Path) -> Path:
    """Compile the stand-ins for the unpacked `package` into `folder`, unless they are there; returns `folder`."""
    if not (folder / "libhccl.so").exists():
        folder.mkdir(parents=True, exist_ok=True)
        names = _entry_points(package) | ANSWERS.keys()
        hccl = {name for name in names if name.lower().startswith("hccl")}
        for library in LIBRARIES:
            _compile(folder / library, ())
        _compile(folder / "libascendcl", names - hccl)
        _compile(folder / "libacl_op_compiler", {name for name in names - hccl if name.startswith("acl")})
        _compile(folder / "libhccl", hccl)
    return folder


def _entry_points(package: Path) -> set[str]:
    """What the wheel's libraries link against, and what they look up by name."""
    libraries = [*package.glob("_C*.so"), *(package / "lib").glob("lib*.so")]
    linked = subprocess.run(["nm", "-D", "--undefined-only", *map(str, libraries)], capture_output=True, check=True)
    looked_up = (package / "lib" / "libtorch_npu.so").read_bytes()
    words = {word.decode() for word in re.findall(rb"\w{6,}", linked.stdout + looked_up)}
    return {word for word in words if ENTRY.fullmatch(word)}


def _compile(library: Path, names: Iterable[str]) -> None:
    lines = (f"long {name}{ANSWERS.get(name, '(void) { return 0; }')}\n" for name in sorted(names))
    source = library.with_suffix(".c")
    source.write_text(HEAD + "".join(lines), encoding="utf-8")
    target = library.with_suffix(".so")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O0", "-w", f"-Wl,-soname,{target.name}", "-o", str(target), str(source)],
        check=True,
    )
