"""The actors and files of one GRPO run, put together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pangu_rl.accelerators import Accelerator
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.cluster.placement import Placement
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import ConfigError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.engines import EnginesConfig, open_engines
from pangu_rl.loops.inputs.prompts import GrpoInputs
from pangu_rl.loops.online.collect import Collector
from pangu_rl.loops.online.draw_ahead import DrawAhead
from pangu_rl.loops.online.parts import GrpoParts
from pangu_rl.loops.online.warnings import start_warnings
from pangu_rl.loops.online.weight_sync import Probe
from pangu_rl.loops.session import Run
from pangu_rl.loops.stage_report import write_rows_read
from rollout.store import RolloutStore

log = logging.getLogger(__name__)


@contextmanager
def open_parts(config: GrpoConfig, run: Run, inputs: GrpoInputs, start: Path) -> Iterator[GrpoParts]:
    """The actors of a run whose learner begins with the model in `start`; they end with the context, and what trains
    and draws starts with `GrpoParts.learning`.

    Raises:
        UserError: a model folder or an engine setting that cannot be used.
    """
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    run.say_each(inputs.loader.notes)
    for line in start_warnings(config, len(inputs.train)):
        log.warning("%s", line)
    write_rows_read(run.dir, train=len(inputs.train), heldout=len(inputs.heldout), left_out=len(inputs.skipped))
    loader = inputs.loader
    stream = PromptStream(inputs.train, shuffle=config.data.shuffle, seed=config.trainer.seed, digests=loader.digests)
    probe = Probe.of(inputs.train, loader, config.rollout.probe_tolerance)
    run.accelerator.sleep_level(config.rollout.sleep_level)  # refuses one that engines lack
    if config.rollout.placement == "shared":
        run.accelerator.require_sleeper(model_config(start))
    with ExitStack() as stack:
        lora = config.learner.lora
        apart = lora is not None and lora.apart
        sections = EnginesConfig(
            # What no sync sends must be the learner's from the beginning.
            model=config.model.model_copy(update={"path": str(start)}) if apart else config.model,
            lora=lora if apart else None,
            rollout=config.rollout,
            rewards=config.rewards,
            seed=config.trainer.seed,
            end_tokens=loader.encoder.end_tokens,
        )
        placement = stack.enter_context(run.placed(config))
        transport = _transport(config, placement)
        engines = stack.enter_context(open_engines(sections, run, placement))
        background = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="beside training"))
        collector = Collector(config, stream, loader, engines.pool, engines.rewards)
        yield GrpoParts(
            config=config,
            run=run,
            loader=loader,
            heldout=inputs.heldout,
            collector=collector,
            ahead=DrawAhead(collector, inputs.train) if config.trainer.max_staleness else None,
            spec=learner_spec(config, start, run.accelerator),
            engines=engines,
            store=RolloutStore(run.dir, loader.folder.root),
            probe=probe,
            transport=transport,
            background=background,
        )


def _transport(config: GrpoConfig, placement: Placement) -> str:
    chosen = config.rollout.weight_transport
    if config.rollout.placement == "shared":
        return "shm"  # of the engine's own node: a group cannot have two members on one device
    if chosen == "shm" and not placement.shares_memory:
        raise ConfigError(
            "rollout.weight_transport is shm, and not all rollout actors are on the node of learner rank 0, whose "
            "memory holds the weights: set it to auto or broadcast"
        )
    return chosen if chosen != "auto" else "shm" if placement.shares_memory else "broadcast"


def learner_spec(config: GrpoConfig, start: Path, accelerator: Accelerator) -> LearnerSpec:
    """What every rank of the learner is built from, but for its rank."""
    return LearnerSpec(
        model=config.model.model_copy(update={"path": str(start)}),
        learner=config.learner,
        objective="grpo",
        total_steps=config.trainer.steps * config.algorithm.mini_batches,
        algorithm=config.algorithm,
        temperature=config.rollout.temperature,
        constant_length=config.rollout.max_new_tokens,
        seed=config.trainer.seed,
        accelerator=accelerator.name,
        world_size=config.learner.ranks,
    )
