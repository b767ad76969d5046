"""A run on one machine can be reached from that machine alone: Ray, torch's store, and gloo between learner ranks and
for weights. None of torch's asks who comes; Ray's has a token."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.contracts.source_tree import ROOT

RUN = """
import json, os, ray, torch
from pathlib import Path
from pangu_rl.accelerators.collective import build_group, free_port, meeting_at
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.learner.actor import RankActor
from tests.security.test_sockets import listening

class Rank(RankActor):
    def start(self, host, port):
        import torch.distributed as dist
        os.environ.update(meeting_at(host, port))
        dist.init_process_group("gloo", rank=self._rank, world_size=2)
        total = torch.ones(1)
        dist.all_reduce(total)
        return total.item()

    def weights(self, host, port):
        self._group = build_group("gloo", host, port, self._rank, 2)

with ray_runtime.session(ClusterConfig(object_store_gib=0.1)):
    kind = ray.remote(concurrency_groups={"health": 1, "files": 2})(Rank)
    ranks = [kind.options(num_cpus=0).remote(rank) for rank in range(2)]
    host, port = ray.get(ranks[0].address.remote())
    assert ray.get([rank.start.remote(host, port) for rank in ranks]) == [2.0, 2.0]
    port = free_port(host)
    ray.get([rank.weights.remote(host, port) for rank in ranks])
    files = [path.stat().st_mode & 0o777 for path in Path(os.environ["RAY_TMPDIR"]).glob("ray-*")]
    print(json.dumps([listening(), files]))
"""


def listening() -> list[tuple[str, str, int]]:
    """(process, address, port) of every socket that this process and those below it listen on."""
    me = psutil.Process()
    return [
        (process.name(), open_.laddr.ip, open_.laddr.port)
        for process in (me, *me.children(recursive=True))
        for open_ in process.net_connections("inet")
        if open_.status == psutil.CONN_LISTEN
    ]


def is_inside(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def test_a_private_run_listens_on_loopback_alone_and_its_files_are_its_own():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            cwd=ROOT,
            env=os.environ | {"RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert not list(Path(folder).glob("ray-*")), "the files of a Ray that ended well"
    found, modes = json.loads(done.stdout.strip().splitlines()[-1])
    assert modes == [0o700]
    names = " ".join(name for name, *_ in found)
    for part in ("gcs_server", "raylet", "python", "ray::Rank"):
        assert part in names, found
    ranks = [port for name, _, port in found if name.startswith("ray::Rank")]
    assert len(ranks) >= 2 + 2 + 4, f"Ray's own, two stores, and gloo of each rank in both groups: {found}"
    assert not [entry for entry in found if not is_inside(entry[1])]


def test_the_check_itself():
    assert is_inside("127.0.0.1")
    assert is_inside("::ffff:127.0.0.1")
    assert is_inside("::1")
    assert not any(map(is_inside, ("0.0.0.0", "::", "192.0.2.2", "::ffff:192.0.2.2")))
