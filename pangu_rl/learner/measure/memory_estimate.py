"""What a rank of the learner holds at most: model shape, settings, the longest micro-batch -> **bytes by part**.

States (weights, gradients, optimizer, buckets) are there all the time; on top comes the highest of the moments that a
step passes: the head's backward pass, when everything that the forward pass kept is alive; the first layer's backward
pass; the embedding's gradient; the optimizer's step. Each term is derived where it is computed, from the code that
allocates it (ours, transformers' and DeepSpeed 0.19's). Imports neither torch nor transformers.

Letters: T tokens of a rank, M its targets, P its patches, E width, H heads, K key-value heads, D head size, F width of
the perceptron, V vocabulary, W width of the tower, b bytes of a number in the model's dtype.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from pangu_rl.learner.measure.adapter_shape import adapted_layers, adapter_parameters
from pangu_rl.learner.measure.memory_inputs import HOST, WIDE, Kernels, MicroBatch, Settings
from pangu_rl.learner.measure.model_shape import ModelShape, TowerShape

REDUCE_BUCKET = 500_000_000
"""Elements; what `learner.zero` gives DeepSpeed where no fewer are trained."""
LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's `stage3_max_reuse_distance` and `stage3_max_live_parameters`: ZeRO 3 keeps what it gathered where it is
used again within so many elements."""
PATCH = 588
"""Numbers of a patch whose frame stands for both."""
SUB_GROUP = 1_000_000_000
"""Elements that ZeRO 3 steps at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one rank."""

    weights: int
    """In the model's dtype; under ZeRO 3 the rank's part, and what is gathered of the others'."""
    gradients: int
    optimizer: int
    """float32 weights and Adam's two moments."""
    buckets: int
    activations: int
    """What the forward pass keeps of one micro-batch at the highest moment, the tower's included."""
    workspace: int
    """What that moment takes beside all that."""
    host: int = 0
    """In the host's memory instead of the device's: what offload puts there."""

    @property
    def total(self) -> int:
        """On the device."""
        return sum(asdict(self).values()) - self.host


def estimate(shape: ModelShape, settings: Settings, batch: MicroBatch, kernels: Kernels = HOST) -> Memory:
    """The peak of a rank over a step of several micro-batches, the largest of them `batch`."""
    states = _states(shape, settings)
    passing = _moments(shape, settings, batch, kernels, states.reducing)
    activations, workspace, reducing = max((*passing, (0, states.step, 0)), key=sum)
    return Memory(
        weights=states.weights,
        gradients=states.gradients,
        optimizer=states.optimizer,
        buckets=states.buckets + reducing,
        activations=activations,
        workspace=workspace,
        host=states.host,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _States:
    """What does not depend on the tokens."""

    weights: int
    gradients: int
    optimizer: int
    buckets: int = 0
    reducing: int = 0
    """Buckets that are there from a pass's first gradient to its last."""
    step: int = 0
    """While the optimizer steps."""
    host: int = 0


def _states(shape: ModelShape, settings: Settings) -> _States:
    """A text model is trained whole. Adapters are trained in its place, and lie beside the weights."""
    stage = {0: _zero_0, 1: _zero_1, 2: _zero_2, 3: _zero_3}[settings.zero_stage]
    if settings.lora is None:
        parts = [part for part in shape.parts if part in settings.trainable or shape.tower is None]
        return stage(shape, sum(shape.parts[part] for part in parts), settings)
    trained = adapter_parameters(shape, settings.lora, settings.trainable)
    states = stage(shape, trained, settings)
    beside = trained if settings.zero_stage < 3 else _share(trained, settings)
    return replace(states, weights=states.weights + beside * settings.size)


def _zero_0(shape: ModelShape, trained: int, settings: Settings) -> _States:
    """float32 without a wrapper: `ClippingAdamW` on the weights themselves. Several ranks reduce flat copies."""
    return _States(
        weights=shape.parameters * settings.size,
        gradients=trained * WIDE,
        optimizer=2 * trained * WIDE,
        step=min(trained, REDUCE_BUCKET) * WIDE if settings.ranks > 1 else 0,
    )


def _zero_1(shape: ModelShape, trained: int, settings: Settings) -> _States:
    """bf16: DeepSpeed's BF16_Optimizer. The float32 sum of the gradients is whole on every rank, the float32 weights
    and moments are its share; several ranks reduce a copy of the sum in bf16. With float32 or offload it is the
    optimizer of ZeRO 2, whole gradients and a bucket beside them."""
    if settings.size == WIDE or settings.offload_optimizer:
        flat = _zero_2(shape, trained, settings)
        return replace(flat, gradients=trained * WIDE, step=0)
    return _States(
        weights=shape.parameters * settings.size,
        gradients=trained * WIDE,
        optimizer=3 * _share(trained, settings) * WIDE,
        step=trained * settings.size if settings.ranks > 1 else 0,
    )


def _zero_2(shape: ModelShape, trained: int, settings: Settings) -> _States:
    """Gradients pass through a bucket in the model's dtype; their float32 sum is the rank's share."""
    share = _share(trained, settings) * WIDE
    offloaded = settings.offload_optimizer
    return _States(
        weights=shape.parameters * settings.size,
        gradients=0 if offloaded else share,
        optimizer=0 if offloaded else 3 * share,
        reducing=(2 if settings.overlap else 1) * _bucket(trained, settings),
        host=_on_host(shape, trained, settings),
    )


def _zero_3(shape: ModelShape, trained: int, settings: Settings) -> _States:
    """As ZeRO 2, and the weights are shares too; gathered are those that are used again soon. A step flattens the
    gradients of a sub-group."""
    share = _share(trained, settings) * WIDE
    offloaded = settings.offload_optimizer
    own = 0 if settings.offload_parameters else _share(shape.parameters, settings)
    gathered = min(shape.parameters, LIVE_PARAMETERS) if settings.ranks > 1 or settings.offload_parameters else 0
    return _States(
        weights=(own + gathered) * settings.size,
        gradients=0 if offloaded else share,
        optimizer=0 if offloaded else 3 * share,
        buckets=_bucket(trained, settings),
        step=0 if offloaded else min(share, SUB_GROUP * WIDE),
        host=_on_host(shape, trained, settings),
    )


def _bucket(trained: int, settings: Settings) -> int:
    return (settings.bucket or min(trained, REDUCE_BUCKET)) * settings.size


def _share(numbers: int, settings: Settings) -> int:
    return -(-numbers // settings.ranks)


def _on_host(shape: ModelShape, trained: int, settings: Settings) -> int:
    """float32 weights, gradients and moments, and the weights on their way; with offloaded parameters theirs too."""
    optimizer = _share(trained, settings) * (4 * WIDE + settings.size) if settings.offload_optimizer else 0
    return optimizer + (_share(shape.parameters, settings) * settings.size if settings.offload_parameters else 0)


def _moments(
    shape: ModelShape, settings: Settings, batch: MicroBatch, kernels: Kernels, reducing: int
) -> tuple[tuple[int, int, int], ...]:
    """(activations, workspace, buckets) of the moments of a pass that may be the highest: the log-probs' backward pass,
    the head's gradient on its way to the float32 sum, the last layer's backward pass, the embedding's gradient.

    Checkpointing keeps the input of each layer, and computes one layer's activations again when its turn comes. The
    last norm's input is one more. A tied embedding waits with the head's gradient until its own is there. Beside
    adapters neither table has a gradient, and each adapted layer keeps A's product.
    """
    degree, size = settings.sequence_parallel, settings.size
    tokens = -(-batch.tokens // degree)
    stream = shape.width * size * tokens
    layer = (layer_kept(shape, degree, size, kernels) + _adapters_kept(shape, settings)) * tokens
    again = layer - stream if settings.gradient_checkpointing else 0
    kept = shape.layers * (stream if settings.gradient_checkpointing else layer)
    kept += tower_kept(shape, settings, kernels) * -(-batch.patches // degree)
    table = shape.embedding * size if settings.lora is None else 0
    pending = table if shape.tied else 0
    cast = shape.embedding * WIDE if size != WIDE and settings.zero_stage == 1 and table else 0
    hidden, logits, head = _head(shape, settings, min(batch.targets, tokens), kernels)
    working = layer_working(shape, degree, size, kernels) * tokens
    return (
        (kept + stream + hidden + logits, head, 0),
        (kept + stream + hidden, table + cast, reducing),
        (kept + again, working + pending, reducing),
        (0, stream + 2 * pending + table + cast, reducing),
    )


def _head(shape: ModelShape, settings: Settings, targets: int, kernels: Kernels) -> tuple[int, int, int]:
    """(chosen hidden states, last chunk's probabilities, working memory) of `chunked_logprobs`, which keeps the first
    two. Its backward pass makes the gradient of the hidden states and, where the head is trained, chunk by chunk that
    of the head in the model's dtype; those of several chunks are summed in float32."""
    size, table = settings.size, shape.embedding * settings.size
    chunks = max(1, -(-targets // settings.chunk))
    logits = -(-targets // chunks) * shape.vocabulary
    hidden = targets * shape.width * size
    tiles = 2 * min(logits, kernels.tile) * WIDE
    if settings.lora is not None:
        return hidden, logits * size, max(tiles, hidden)
    summed = table + (shape.embedding * WIDE if chunks > 1 else 0)
    turned = min(kernels.strip, logits, shape.embedding) * size if size != WIDE else 0
    return hidden, logits * size, max(tiles, hidden + summed + turned)


def _adapters_kept(shape: ModelShape, settings: Settings) -> int:
    """Bytes that the adapters of a layer of the language model keep for each token: A's product, `rank` numbers."""
    if settings.lora is None:
        return 0
    decoder = replace(shape, tower=None)
    return len(adapted_layers(decoder, settings.lora, ())) * settings.lora.rank * settings.size


def layer_kept(shape: ModelShape, degree: int, size: int, kernels: Kernels) -> int:
    """Bytes that a layer keeps for each token of its backward pass.

    Two norms: input (the residual stream, E), result (E, which the projections keep) and 4 bytes of inverse root mean
    square. Attention: q and its output (H D each), k and v (K D each; of repeated heads, where `sequence_parallel`
    does not divide K), and a float32 log-sum-exp of each head. Its output is `o_proj`'s input, and a tensor of its own
    only where it comes out of an exchange. Rotation keeps cos and sin alone, which all layers share. The perceptron:
    `Kernels.perceptron` times F.
    """
    query, key = _widths(shape, degree)
    exchanged = query if degree > 1 else 0
    numbers = 4 * shape.width + 2 * query + 2 * key + exchanged + kernels.perceptron * shape.inner
    return numbers * size + (2 + shape.heads) * WIDE


def layer_working(shape: ModelShape, degree: int, size: int, kernels: Kernels) -> int:
    """Bytes for each token that a layer's backward pass takes beside what it keeps, at the higher of two moments.

    Both have the gradient of the stream (E). At the perceptron's product there are three more, of the product and of
    what it multiplies, of which one F has just been freed. At attention there are those of its output and of q, k and
    v, and what it works in, while the perceptron and its norm have let go of what they kept.
    """
    query, key = _widths(shape, degree)
    gradients = (2 * query + 2 * key) * size
    freed = (2 * shape.width + kernels.perceptron * shape.inner) * size
    attention = gradients + query * kernels.query_bytes + key * kernels.key_bytes - freed
    return shape.width * size + max(2 * shape.inner * size, attention)


def _widths(shape: ModelShape, degree: int) -> tuple[int, int]:
    """Numbers of a token's queries, and of its keys; key heads are repeated where `degree` does not divide them."""
    return shape.heads * shape.head_size, math.lcm(shape.kv_heads, degree) * shape.head_size


def tower_kept(shape: ModelShape, settings: Settings, kernels: Kernels) -> int:
    """Bytes that tower and connector keep for each patch; what is frozen, with nothing trained below it, keeps none."""
    if shape.tower is None or not {"encoder", "connector"} & set(settings.trainable):
        return 0
    connector = _connector_kept(shape.tower, shape.width, settings.size)
    return connector + (_encoder_kept(shape.tower, settings, kernels) if "encoder" in settings.trainable else 0)


def _encoder_kept(tower: TowerShape, settings: Settings, kernels: Kernels) -> int:
    """Patch embedding: its input, 588 numbers. A block: stream and norm twice (4 W, 8 bytes), q, k, v and output (4 W;
    W more where segments of several lengths are put back in order), log-sum-exp, the perceptron's 2 F, or with a gate
    `Kernels.perceptron` times F."""
    block = (9 * tower.width + (kernels.perceptron if tower.gated else 2) * tower.inner) * settings.size + (
        2 + tower.heads
    ) * WIDE
    checkpointed = tower.width * settings.size
    return PATCH * settings.size + tower.depth * (checkpointed if settings.gradient_checkpointing else block)


def _connector_kept(tower: TowerShape, text_width: int, size: int) -> int:
    """A merger: the tower's last norm (input and result), its own norm's result, which is the first matrix's input,
    that one's result before and after GELU (all W a patch), and a cell's output; the projection: before and after SiLU,
    and its result."""
    merger = (5 * tower.width + tower.merged / tower.cell) * tower.mergers
    projection = (2 * tower.merged + text_width) / tower.cell if tower.projected else text_width / tower.cell
    return int((merger + projection) * size)
