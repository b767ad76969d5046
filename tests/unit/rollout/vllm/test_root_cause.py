"""The cause of an engine's end, from what its processes wrote."""

from __future__ import annotations

from pathlib import Path

from rollout.vllm.root_cause import points_elsewhere, root_cause

SAID = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}"
CORE = """\
Process EngineCore:
(EngineCore pid=41) Traceback (most recent call last):
(EngineCore pid=41)   File "core.py", line 1130, in run_engine_core
(EngineCore pid=41)     raise e
(EngineCore pid=41) ValueError: To serve at least one request, (0.5 GiB KV cache is needed), says OSError: too little
"""
WORKER = """\
(Worker_TP1 pid=52) ERROR 11-30 14:00:00 [multiproc_executor.py:953] WorkerProc failed to start.
(Worker_TP1 pid=52) ERROR 11-30 14:00:00 [multiproc_executor.py:953] Traceback (most recent call last):
(Worker_TP1 pid=52) ERROR 11-30 14:00:00 [multiproc_executor.py:953] torch.OutOfMemoryError: CUDA out of memory.
(EngineCore pid=41) Exception: WorkerProc initialization failed due to an exception in a background process. \
See stack trace for root cause.
"""


def test_the_last_error_that_names_a_cause_is_it(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.err"
    log.write_text("an older line\n" + CORE)
    assert points_elsewhere(SAID)
    expected = "ValueError: To serve at least one request, (0.5 GiB KV cache is needed), says OSError: too little"
    assert root_cause(log) == f"{expected} (more in {log})"
    log.write_text(CORE + WORKER + f"RuntimeError: {SAID}\nKeyError: '/mp-jm0qxuj7'\n")
    assert root_cause(log) == f"torch.OutOfMemoryError: CUDA out of memory. (more in {log})"


def test_without_one_the_file_is_named_and_a_pipe_is_not(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.err"
    log.write_text("Killed\n")
    assert root_cause(log) == f"see {log}"
    assert root_cause(Path("/dev/null")) == ""
