"""Kills and stops of a run of two engines, two reward workers and two learner ranks: **seconds lost by each**.

Every case is a GRPO run of the real command on the two-layer model. Once the rollouts of a step are stored, a process
is hit while it does what it is there for; the run, or the same command again where the driver was hit, must end like a
run that nothing was done to. In synchronous mode that means the same rollouts and weights, to the bit. With stale
rollouts, which depend on timing, it means the same prompts, each in one group of as many answers, and no token too old.

`python -m benchmarks.online.kills` prints the table; `--staleness 2` and `--transport broadcast` those of other modes.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.builders import build_tiny_model
from tests.e2e import runs
from tests.faults.alike import PATIENCE_S, SYNCHRONOUS, Mode, differences, write_config
from tests.faults.losses import LOSSES, lose, losses_of


def drawn_again(run_dir: Path) -> int:
    """Answers of lost engines that were begun anew, by what the run said."""
    said = (run_dir / "run.log").read_text()
    return sum(map(int, re.findall(r"(\d+) requests are drawn again", said)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LOSSES)
    parser.add_argument("--staleness", type=int, default=SYNCHRONOUS.staleness)
    parser.add_argument("--transport", choices=["shm", "broadcast"], default=SYNCHRONOUS.transport)
    args = parser.parse_args()
    mode = Mode(args.staleness, args.transport)
    with TemporaryDirectory() as root:
        model = build_tiny_model(Path(root) / "tiny")
        whole = Path(root) / "whole"
        whole.mkdir()
        started = time.monotonic()
        done = runs.run("grpo", write_config(whole, model, mode), timeout=PATIENCE_S)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        undisturbed = time.monotonic() - started
        print(json.dumps({"case": "nothing", "seconds": round(undisturbed, 1)}), flush=True)
        for number, name in enumerate(args.only or losses_of(mode)):
            folder = Path(root) / str(number)
            folder.mkdir()
            seconds = lose(write_config(folder, model, mode), folder / "run", LOSSES[name])
            report = {"case": name, "seconds": round(seconds, 1), "lost": round(seconds - undisturbed, 1)}
            report |= {"drawn_again": drawn_again(folder / "run")}
            print(json.dumps(report | {"differs": differences(folder / "run", whole / "run", mode)}), flush=True)


if __name__ == "__main__":
    main()
