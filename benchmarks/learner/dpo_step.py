"""Seconds per MPO step, ours and TRL's, on the same weights, token ids and reference log-probs, in one run.

`text` has SmolLM2-135M and drawn pairs of a chat's lengths; `pictures` has the tiny openPangu-VL and pairs that ask
about one picture of 448 pixels. Weights 0.8, 0.2, 1.0, so that ours pays for its reward shift, which TRL has not.
Ours runs the loop's own step through Ray and DeepSpeed, with the reading of pictures. The two take their steps by
turns, so that other work on the machine slows both; the first of each warms up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data.pairs import Pair
from pangu_rl.loops.inputs.pairs import DpoInputs, read_dpo_inputs
from pangu_rl.loops.session import open_run
from pangu_rl.loops.supervised.reference import open_store
from pangu_rl.loops.supervised.run_preference import open_parts

REPO = Path(__file__).parents[2]
PAIRS = 16
WORDS = ("red", "blue", "large", "small", "house", "tree", "river", "number", "answer", "because", "then", "first")


@dataclass(frozen=True, slots=True)
class Setting:
    """A model, and the lengths of its pairs in words, which are about tokens: drawn evenly from a range."""

    model: str
    prompt: tuple[int, int]
    response: tuple[int, int]
    pixels: int | None = None
    """Side of the prompt's picture."""


SETTINGS = {
    "text": Setting("cache://models/smollm2-135m-instruct", (40, 360), (40, 360)),
    "pictures": Setting("cache://models/tiny-pangu-vl", (10, 60), (10, 120), 448),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each")
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    report = {}
    for name in args.settings:
        with tempfile.TemporaryDirectory() as folder:
            report[name] = measure(SETTINGS[name], Path(folder), args)
        print(json.dumps({name: report[name]}, indent=1), flush=True)


def measure(setting: Setting, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step of each, taken by turns."""
    config = write_pairs(setting, folder, args.steps + 1)
    inputs = read_dpo_inputs(config)
    ours: list[float] = []
    theirs: list[float] = []
    tokens, packs = [], []
    with ExitStack() as stack:
        peer = None if args.ours_only else stack.enter_context(Peer(config, inputs, folder, args.steps + 1))
        run = stack.enter_context(open_run(config, "DPO benchmark"))
        parts = stack.enter_context(open_parts(config, run, inputs, open_store(config, inputs)))
        for _ in range(args.steps + 1):
            begun = time.perf_counter()
            [batch], *_ = parts.next_batch()
            parts.learners.update_from(parts.learners.hand_out([[batch]]))
            ours.append(time.perf_counter() - begun)
            tokens.append(sum(pack.num_tokens for pack in batch.packs))
            packs.append(len(batch.packs))
            if peer is not None:
                theirs.append(peer.step())
        found = peer.finish() if peer is not None else None
    report = {"ours": figures(ours) | {"tokens": round(median(tokens)), "packs": packs[1:]}}
    if found is None:
        return report
    difference = np.abs(np.array(found["reference"]) - references(folder)).sum() / sum(map(responses, peer.rows))
    report["trl"] = figures(theirs) | {"tokens": found["tokens"]}
    report["reference_differs_nats_per_token"] = round(float(difference), 4)
    report["ratio"] = round(median(theirs[1:]) / median(ours[1:]), 2)
    return report


def figures(seconds: list[float]) -> dict[str, Any]:
    return {"step_s": round(median(seconds[1:]), 3), "steps": [round(value, 2) for value in seconds[1:]]}


def write_pairs(setting: Setting, folder: Path, steps: int) -> DpoConfig:
    """`steps` times PAIRS rows, and the pictures that they name."""
    rng = np.random.default_rng(0)

    def words(bounds: tuple[int, int]) -> str:
        return " ".join(rng.choice(WORDS, rng.integers(*bounds)))

    rows = []
    for index in range(steps * PAIRS):
        row = {"id": str(index), "prompt": words(setting.prompt)}
        row |= {"chosen": words(setting.response), "rejected": words(setting.response)}
        if setting.pixels is not None:
            pixels = rng.integers(0, 256, (setting.pixels // 8, setting.pixels // 8, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((setting.pixels, setting.pixels))
            picture.save(folder / f"{index}.png")
            row["images"] = [f"{index}.png"]
        rows.append(row)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "model": {"path": setting.model},
        "data": {"train": str(folder / "pairs.jsonl"), "media_root": str(folder), "shuffle": False},
        "learner": {"pack_tokens": 4096, "logprob_chunk": 4096},
        "trainer": {"run_dir": str(folder / "ours"), "steps": steps, "pairs_per_step": PAIRS},
        "monitoring": {"live": False, "tensorboard": False},
    }
    return checked(DpoConfig, tree, "benchmark")


def references(folder: Path) -> np.ndarray:
    """float64 [B, 2] summed log-probs that ours stored."""
    _, *rows = (folder / "ours" / "reference.jsonl").read_text(encoding="utf-8").splitlines()
    return np.array([[json.loads(row)[side] for side in ("chosen", "rejected")] for row in rows])


def responses(row: dict[str, Any]) -> int:
    """Tokens of both responses."""
    return len(row["chosen_ids"]) + len(row["rejected_ids"])


class Peer:
    """TRL in a process of its own, on our token ids; a context that ends it."""

    def __init__(self, config: DpoConfig, inputs: DpoInputs, folder: Path, steps: int) -> None:
        self.rows = [token_ids(pair, inputs) for pair in inputs.train]
        file = folder / "ids.json"
        file.write_text(json.dumps(self.rows), encoding="utf-8")
        self.command = [
            *(sys.executable, str(REPO / "benchmarks/learner/trl_dpo_step.py"), "--pairs", str(file)),
            *("--model", str(resolve_path(config.model.path)), "--output", str(folder / "trl")),
            *("--media-root", str(folder), "--steps", str(steps), "--pairs-per-step", str(PAIRS)),
        ]

    def __enter__(self) -> Peer:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "ready"
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def step(self) -> float:
        """Seconds of its next step."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer())

    def finish(self) -> dict[str, Any]:
        """Its `reference` [B, 2] log-probs and the `tokens` of a step, padding included."""
        return json.loads(self._answer())

    def _answer(self) -> str:
        for line in self.process.stdout:
            if line.startswith("@"):
                return line[1:].strip()
        raise SystemExit(f"TRL ended with {self.process.wait()}")


def token_ids(pair: Pair, inputs: DpoInputs) -> dict[str, Any]:
    pictures = [inputs.loader.folder.outline(path) for path in pair.images]
    row = inputs.loader.encoder.pair(pair, pictures)
    ids = {"prompt_ids": row.prompt.token_ids, "chosen_ids": row.chosen, "rejected_ids": row.rejected}
    return ids | {"pictures": pair.images}


if __name__ == "__main__":
    main()
