"""Time by operation from a trace: what is inside an operation is not counted twice, and goes to its owner's kind."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from pangu_rl.monitoring.operations import GAPS, plot_operations, profile_of, write_operations


def span(name: str, start: float, length: float, *, category: str = "cpu_op", thread: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread, "ts": start, "dur": length}


# A linear of 100 around a product of 90; attention of 50 around a product of 30 and a copy of 5; 10 between them.
HOST = [
    span("aten::copy_", 145, 5),
    span("aten::linear", 0, 100),
    span("aten::mm", 5, 90),
    span("_TreeAttention", 110, 50),
    span("aten::mm", 112, 30),
    {"ph": "M", "name": "process_name"},
    span("cudaLaunchKernel", 6, 1, category="cuda_runtime"),
]


def test_times_are_without_what_is_inside():
    profile = profile_of(HOST)
    found = {(one.name, one.kind): (one.calls, one.microseconds) for one in profile.operations}
    assert found == {
        ("aten::mm", "matrix products"): (1, 90),
        ("aten::linear", "matrix products"): (1, 10),
        ("aten::mm", "attention"): (1, 30),
        ("_TreeAttention", "attention"): (1, 15),
        ("aten::copy_", "attention"): (1, 5),
    }
    assert profile.wall == 160
    assert profile.by_kind() == {"matrix products": 100, "attention": 50, GAPS: 10}


def test_threads_are_apart_and_kernels_come_before_operations_of_the_host():
    kernels = [span("sgemm", 20, 30, category="kernel", thread=7), span("sgemm", 60, 10, category="kernel", thread=7)]
    profile = profile_of([*HOST, *kernels])
    assert [(one.name, one.calls, one.microseconds) for one in profile.operations] == [("sgemm", 2, 40)]
    assert profile.by_kind() == {"matrix products": 40, GAPS: 10}
    two_threads = profile_of([span("aten::mm", 0, 10), span("aten::add", 2, 4, thread=2)])
    assert {one.name: one.microseconds for one in two_threads.operations} == {"aten::mm": 10, "aten::add": 4}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("autograd::engine::evaluate_function: MmBackward0", "matrix products"),
        ("_RmsNormBackward", "norms"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("c10d::allreduce_", "communication"),
        ("aten::scatter_add_", "copies and gathers"),
        ("aten::zero_", "fills"),
        ("aten::silu_backward", "elementwise"),
        ("aten::view", "other"),
    ],
)
def test_kinds(name, kind):
    assert [one.kind for one in profile_of([span(name, 0, 1)]).operations] == [kind]


def test_the_table_and_the_picture(tmp_path):
    write_operations(profile_of(HOST), tmp_path / "operations.csv")
    rows = list(csv.DictReader((tmp_path / "operations.csv").open()))
    assert rows[0] == {
        "operation": "aten::mm",
        "kind": "matrix products",
        "calls": "1",
        "self_ms": "0.090",
        "share": "0.5625",
    }
    for events in (HOST, []):
        plot_operations(profile_of(events), tmp_path / "operations.png", "a step")
        assert (tmp_path / "operations.png").read_bytes().startswith(b"\x89PNG")
