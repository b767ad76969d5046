"""All checks, one after another; a check that fails in a way of its own is a finding and stops none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import BaseModel

from pangu_rl.doctor import machine, paths, ray_setup, versions
from pangu_rl.monitoring.findings import Finding


def examine(config: BaseModel | None = None) -> Iterator[Finding]:
    """Findings about this machine, and with a stage's configuration about its paths, sizes and cluster too."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": versions.check_python,
        "packages": versions.check_packages,
        "stray builds": versions.check_stray_builds,
        "devices": machine.check_devices,
        "drivers": machine.check_drivers,
        "builds": machine.check_builds,
        "shared memory": lambda: machine.check_shared_memory(paths.shared_memory_needed(config)),
        "network": machine.check_network,
        "ray": lambda: ray_setup.check_ray(config),
        "disk": lambda: paths.check_disk(config),
        "paths": lambda: paths.check_paths(config),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # a doctor that dies of one broken library is of no use
            text = " ".join(str(error).split())[:200]
            yield Finding(
                check=name,
                status="fail",
                detail=f"could not be looked at: {type(error).__name__}: {text}",
                mend="mend what the message names, then look again",
            )
