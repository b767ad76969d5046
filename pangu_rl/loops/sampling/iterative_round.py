"""One round of iterative fine-tuning: a model -> its scored answers -> **what it learns from -> the model after**."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.algorithms.rejection_sampling import Candidate, Reason, select_hard
from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.checkpoint.store import CheckpointStore, check_model
from pangu_rl.checkpoint.whole_model import whole_model
from pangu_rl.cluster.ray_runtime import Preemption
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.config.sections.data import SftDataConfig
from pangu_rl.config.sections.trainer import SftTrainerConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.data.decontaminate import HeldOut
from pangu_rl.data.queries import media_columns
from pangu_rl.loops.sampling.queries import Queries
from pangu_rl.loops.sampling.sample import Sampler, candidates_of, in_batches, open_sampler, settings
from pangu_rl.loops.stage_report import (
    MANIFEST,
    candidate_figures,
    histogram_table,
    reason_counts,
    write_manifest,
    write_rows,
)
from pangu_rl.loops.supervised.run_sft import run_sft
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.records import Prompt

TOO_LONG = "too_long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round at work."""

    number: int
    config: IterativeConfig
    queries: Queries
    model: Path
    """The model that this round samples, and trains further."""

    @property
    def dir(self) -> Path:
        return Path(self.config.trainer.run_dir) / f"round_{self.number:03d}"

    def after(self, model: Path) -> Round:
        """The next round, with the model that this one made."""
        return dataclasses.replace(self, number=self.number + 1, model=model)

    def sampling_config(self, folder: Path) -> IterativeConfig:
        """The stage's configuration with this round's model, writing into `folder`."""
        return self.config.model_copy(
            update={
                "model": self.config.model.model_copy(update={"path": str(self.model)}),
                "trainer": self.config.trainer.model_copy(update={"run_dir": str(folder)}),
            }
        )


def run_round(turn: Round, preemption: Preemption) -> dict[str, Any]:
    """One round; returns its manifest, read if the round is over already.

    Raises:
        Preempted: SIGTERM came in its last shard or step, which the runs inside the round end with.
    """
    if (turn.dir / MANIFEST).is_file():
        return json.loads((turn.dir / MANIFEST).read_text(encoding="utf-8"))
    checksum = model_checksum(turn.model)
    candidates = sample_round(turn, checksum)
    preemption.raise_if_requested(f"the answers of round {turn.number} are in {turn.dir / 'samples'}")
    rows, reasons = select_rows(turn, candidates)
    turn.dir.mkdir(parents=True, exist_ok=True)
    manifest = {
        "round": turn.number,
        "sampled_model": checksum,
        "queries": reason_counts(reasons),
        **candidate_figures(candidates),
        "selected": write_rows(turn.dir / "selected.jsonl", rows),
    }
    console = Console(stderr=True)
    console.print(histogram_table(f"Round {turn.number}, candidates by score", manifest["scores"]))
    console.print(histogram_table(f"Round {turn.number}, queries", manifest["queries"]))
    if rows:
        manifest |= fine_tune(turn, len(rows))
    write_manifest(turn.dir, manifest)
    preemption.raise_if_requested(f"round {turn.number} is over")
    return manifest


def sample_round(turn: Round, checksum: str) -> dict[str, list[Candidate]]:
    """Measure the round's model on the held-out prompts, then draw and score every query."""
    config, queries = turn.sampling_config(turn.dir / "samples"), turn.queries
    batches = in_batches(config, queries.rows)
    deciding = settings(config, queries.rows, queries.loader, checksum)
    with open_sampler(config, queries.loader, f"Iterative, round {turn.number}", len(batches), deciding) as sampler:
        measure(turn, sampler)
        sampler.draw(batches, epoch=turn.number - 1)
    return candidates_of(sampler.store, len(batches))


def select_rows(
    turn: Round, candidates: Mapping[str, Sequence[Candidate]]
) -> tuple[list[dict[str, Any]], list[Reason | str]]:
    """The conversations to train on, and what became of every query."""
    config, queries = turn.config, turn.queries
    heldout = HeldOut(queries.heldout, config.decontamination, queries.loader.digests)
    rows, reasons = [], []
    for prompt in queries.rows:
        picked, reason = select_hard(
            candidates[prompt.uid],
            correct=config.hard.correct,
            wrong_below=config.hard.wrong_below,
            wrong_at_least=config.hard.wrong_at_least,
        )
        row = None
        if picked is not None:
            row = conversation_row(prompt, picked)
            reason = heldout.problem(prompt) or _length_problem(prompt, row, turn) or reason
        reasons.append(reason)
        if reason is Reason.SELECTED:
            rows.append(row)
    return rows, reasons


def conversation_row(prompt: Prompt, picked: Candidate) -> dict[str, Any]:
    """An SFT row: the query, answered by the model itself."""
    reply = {"role": "assistant", "content": picked.text}
    return {
        "id": prompt.uid,
        "messages": [*prompt.messages, reply],
        **media_columns(prompt),
        "source": prompt.source,
    }


def fine_tune(turn: Round, rows: int) -> dict[str, Any]:
    """Train the round's model on its selection by the SFT stage; the manifest's entries of it."""
    trainer = turn.config.trainer
    steps, sequences = even_steps(rows * trainer.epochs, trainer.sequences_per_step)
    run_dir = turn.dir / "sft"
    config = turn.sampling_config(run_dir)
    run_sft(
        SftConfig(
            model=config.model,
            data=SftDataConfig(
                train=str(turn.dir / "selected.jsonl"),
                media_root=config.data.media_root,
                max_tokens=_max_tokens(turn.config),
            ),
            learner=config.learner,
            trainer=SftTrainerConfig(
                run_dir=str(run_dir),
                steps=steps,
                seed=trainer.seed + turn.number,
                checkpoint_every=trainer.checkpoint_every,
                keep_checkpoints=1,
                stall_s=trainer.stall_s,
                sequences_per_step=sequences,
            ),
            monitoring=config.monitoring,
            cluster=config.cluster,
        )
    )
    model = whole_model(CheckpointStore(run_dir, keep=1).latest(check_model).path)
    losses = [row["train/loss"] for row in read_metrics(run_dir / METRICS)]
    return {
        "fine_tuning": {
            "steps": steps,
            "sequences_per_step": sequences,
            "first_loss": losses[0],
            "last_loss": losses[-1],
        },
        "model": model.relative_to(turn.config.trainer.run_dir).as_posix(),
        "weights": model_checksum(model),
    }


def even_steps(rows: int, most: int) -> tuple[int, int]:
    """(steps, rows a step) for `rows` in as few steps of at most `most` as can be, each of the same size: the last one
    is not filled up with rows that were seen already, but for less than one for each step."""
    steps = ceil(rows / most)
    return steps, ceil(rows / steps)


def measure(turn: Round, sampler: Sampler) -> None:
    """Held-out accuracy of the round's model, once."""
    heldout = turn.queries.heldout[: turn.config.data.heldout_limit]
    path = heldout_file(turn)
    if not heldout or path.is_file():
        return
    name = "start" if turn.number == 1 else f"round {turn.number - 1}"
    evaluation = sampler.measure(name, turn.number - 1, heldout)
    write_whole(path, json.dumps(dataclasses.asdict(evaluation)) + "\n")
    sampler.run.say(f"held-out accuracy, {name}: {evaluation.accuracy:.1%} of {len(evaluation.correct)}")


def heldout_file(turn: Round) -> Path:
    """Where the held-out answers of the round's model lie: those of the start are number 0."""
    return Path(turn.config.trainer.run_dir) / f"heldout_{turn.number - 1:03d}.json"


def _length_problem(prompt: Prompt, row: Mapping[str, Any], turn: Round) -> str | None:
    loader = turn.queries.loader
    pictures = loader.folder.outlines(prompt)
    length = len(loader.encoder.conversation(row["messages"], pictures, row.get("tools", ())).token_ids)
    return TOO_LONG if length > _max_tokens(turn.config) else None


def _max_tokens(config: IterativeConfig) -> int:
    return config.trainer.max_tokens or config.rollout.max_model_tokens
