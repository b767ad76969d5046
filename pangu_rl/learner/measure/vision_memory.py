"""What a rank of the vision-only stage holds at most: model shape, its configuration -> **bytes by part**.

The tower trains in float32 under autocast to bf16, without ZeRO; the rest of the model waits in the host's memory. On
top of what lasts comes the last block's backward pass, of one micro-batch. Derived from `pretrain.train.vision.learner`
and the modules it calls; no device has been measured against it yet. Letters: P patches of a micro-batch, W width of
the tower.
"""

from __future__ import annotations

from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.learner.measure.memory_estimate import Memory
from pangu_rl.learner.measure.memory_inputs import WIDE
from pangu_rl.learner.measure.model_shape import ModelShape, TowerShape

PATCH_EDGE = 14
HALF = 2
"""Bytes of a number under autocast."""


def vision_memory(shape: ModelShape, config: VisionStageConfig) -> Memory | None:
    """At the largest size of the cascade; None of a model without a tower."""
    tower = shape.tower
    if tower is None:
        return None
    pictures = min(config.learner.micro_batch or config.batch, config.batch // config.learner.ranks)
    patches = pictures * max(step.edge // PATCH_EDGE for step in config.cascade) ** 2
    size = HALF if config.model.dtype == "bfloat16" else WIDE
    centres = -(-config.classes // config.learner.ranks) * config.learner.embedding * WIDE
    if config.regions is not None:
        centres += -(-shape.vocabulary // config.learner.ranks) * config.learner.embedding * WIDE
    block = _block_kept(tower, size) * patches
    stream = tower.width * size * patches
    kept = tower.depth * stream + block if config.learner.gradient_checkpointing else tower.depth * block
    features = 2 * tower.width * WIDE * patches  # the deepest block's, in float32, and their gradient
    return Memory(
        weights=tower.encoder * (WIDE + (HALF if size == HALF else 0)),
        gradients=tower.encoder * WIDE,
        optimizer=2 * tower.encoder * WIDE + 3 * centres,
        buckets=0,
        activations=kept + features,
        workspace=_head(config, tower, patches) + _block_working(tower, size) * patches,
        host=shape.parameters * WIDE,
    )


def _block_kept(tower: TowerShape, size: int) -> int:
    """For each patch: stream and norm twice, q, k, v, attention's output, the perceptron's two, or with a gate four;
    norms' results once more in float32, as their weights are."""
    perceptron = (4 if tower.gated else 2) * tower.inner
    return (9 * tower.width + perceptron) * size + 2 * tower.width * WIDE + (2 + tower.heads) * WIDE


def _block_working(tower: TowerShape, size: int) -> int:
    """For each patch: gradients of the perceptron's two, or of q, k, v, their sums in float32, and the output."""
    return max(2 * tower.inner * size, 4 * tower.width * size + 3 * tower.width * WIDE)


def _head(config: VisionStageConfig, tower: TowerShape, patches: int) -> int:
    """Cosines to the drawn classes of this rank, their exponentials and gradients (four of each); with regions also the
    head's norm, keys and values with their gradients, and for every region a mask over the patches of its picture and,
    of each head, scores, shares and their gradient."""
    drawn = config.classes * config.loss.rate / config.learner.ranks
    if config.regions is None:
        return int(4 * config.batch * drawn * WIDE)
    samples = config.batch * config.regions.per_picture
    seen = config.regions.per_picture * patches
    wide = (2 + 4) * tower.width * patches + seen * (1 + 3 * tower.heads)
    return int((4 * samples * drawn + wide) * WIDE)
