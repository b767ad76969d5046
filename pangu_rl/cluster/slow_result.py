"""A result that does not come -> **a line that says from whom, and what is free where they are to run**.

Ray starts a worker when its CPU or device is free, and says nothing until then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

TOLD_S = 30.0
"""A wait for a result that is nothing to speak of."""


@contextmanager
def told_when_slow(workers: int, resource: str) -> Iterator[None]:
    """Within it a result of `workers`, each on one of Ray's `resource`, is waited for; said once if that is long."""
    timer = threading.Timer(TOLD_S, _tell, (workers, resource))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # one that asks a stopped Ray ends the process


def _tell(workers: int, resource: str) -> None:
    import ray

    there, free = (int(of.get(resource, 0)) for of in (ray.cluster_resources(), ray.available_resources()))
    log.warning(
        "no result for %g s from %d workers, each on one %s: of the cluster's %d %d are free; the pieces are long, "
        "or the workers wait until other jobs leave theirs",
        *(TOLD_S, workers, resource, there, free),
    )
