"""Does the engine sample from the model that trains? A step's metrics -> **nothing, a warning, or the end**.

The weights are proven at every sync over a short probe; this looks at all that was drawn, at its real lengths and in
the packs that train.
"""

from __future__ import annotations

from collections.abc import Mapping

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import RunError
from pangu_rl.loops.session import Run

WARNING = 0.1
"""Share of the limit from which a step is worth a line: sound pairs of engine and learner stay at a hundredth of it."""


def check_sampler(run: Run, config: GrpoConfig, step: int, metrics: Mapping[str, float]) -> None:
    """Judge `train/sampler_kl` of `step`, where the rollouts are of the weights that train and anything was trained.

    Raises:
        RunError: it is above `algorithm.sampler_kl_limit`.
    """
    limit, kl = config.algorithm.sampler_kl_limit, metrics.get("train/sampler_kl")
    if limit is None or kl is None or config.trainer.max_staleness:
        return
    found = f"the engine's log-probs are not the learner's, KL {kl:.3g} nats a token"
    if not kl <= limit:
        raise RunError(
            f"step {step}: {found} (algorithm.sampler_kl_limit {limit:g}): what is sampled is another model than what "
            "trains; compare train/logprob_diff with sync/probe_gap of metrics.jsonl: where the probe agrees, long or "
            "packed sequences do not"
        )
    if kl > WARNING * limit:
        run.say(f"step {step}: {found}; the run ends at {limit:g} (algorithm.sampler_kl_limit)")
