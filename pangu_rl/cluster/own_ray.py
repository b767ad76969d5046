"""The Ray that a run has started for itself: **its head and its raylet are processes, and may end as any other**."""

from __future__ import annotations

import logging

from pangu_rl.errors import RunError

log = logging.getLogger(__name__)


def require_own_ray() -> None:
    """Of a cluster that was joined nothing is known here.

    Raises:
        RunError: one of the two is gone. Ray itself waits a minute for it to come back, and then ends the program
            without a line of ours; so the log is told at once.
    """
    import ray
    from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET

    node = ray._private.worker._global_node
    if node is None:
        return
    for name, kind in (("head", PROCESS_TYPE_GCS_SERVER), ("raylet", PROCESS_TYPE_RAYLET)):
        for one in node.all_processes.get(kind, ()):
            if (code := one.process.poll()) is not None:
                lost = RunError(
                    f"the {name} of the run's own Ray ({kind}, pid {one.process.pid}) ended with {code}; the same "
                    "command goes on from the newest checkpoint"
                )
                log.error("%s", lost)
                raise lost
