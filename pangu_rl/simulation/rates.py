"""Sizes of a model, a device and what a device reaches of itself -> **seconds of an engine's and a learner's work**."""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.config.devices import DeviceFacts
from pangu_rl.learner.measure.flops import ModelFlops
from pangu_rl.learner.measure.model_shape import ModelShape
from pangu_rl.simulation.engine import EngineCost

GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What sizes do not say. The defaults are guesses for an accelerator with captured graphs; `fit` has them
    from runs."""

    step_s: float = 0.008
    """Host's work and launches of an engine's step; larger without captured graphs."""
    sequence_s: float = 20e-6
    """Of one running sequence in a step."""
    engine_share: float = 0.6
    """Of its devices' peaks, arithmetic and memory alike, that an engine reaches."""
    learner_share: float = 0.4
    """Of its device's peak that a rank reaches within a micro-batch; openPangu-VL reports 0.425, MindVL about 0.4."""
    update_s: float = 0.0
    """Of every update beside arithmetic and communication."""
    sync_s: float = 0.5
    """Of every sync beside moving bytes: names, digests, the probe."""
    sync_gb_s: float = 5.3
    """Weights from the learner into the engines; verl reports it of 16 Ascend 910C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A model as its cost sees it; of a multimodal one the language model, its pictures being tokens of the prompt."""

    shape: ModelShape
    size: int
    """Bytes of a number."""

    @property
    def weight_bytes(self) -> int:
        return self.shape.parameters * self.size

    @property
    def cached_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.shape.layers * self.shape.kv_heads * self.shape.head_size * self.size

    @property
    def read_bytes(self) -> int:
        """What a decode step reads: layers and head."""
        return (self.shape.layers * self.shape.layer + self.shape.embedding) * self.size

    @property
    def flops(self) -> ModelFlops:
        return ModelFlops.of_shape(self.shape)


def engine_cost(model: ModelSize, facts: DeviceFacts, devices: float, constants: Constants) -> EngineCost:
    """Of an engine of so many devices, or cores."""
    flops = devices * facts.tflops * 1e12 * constants.engine_share
    memory = devices * facts.memory_gb_s * GIGA * constants.engine_share
    work = model.flops
    return EngineCost(
        step_s=constants.step_s,
        sequence_s=constants.sequence_s,
        weights_s=model.read_bytes / memory,
        token_s=(work.per_token + work.per_target) / flops,
        cached_s=model.cached_bytes / memory,
        pair_s=work.per_pair / flops,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """Seconds of a learner's collectives, as rings over the slowest link between ranks."""

    micro_batch_s: float
    update_s: float


def communication(model: ModelSize, trained: int, ranks: int, zero_stage: int, gb_s: float) -> Communication:
    """Of `trained` parameters over so many ranks. Each rank moves (n - 1) / n of the bytes of an all-gather or a
    reduce-scatter, of an all-reduce twice that. ZeRO 0 reduces float32 sums and 1 copies in the model's dtype, once an
    update; 2 reduces and scatters at every micro-batch; 1 and 2 gather the new weights; 3 gathers the weights twice and
    scatters gradients at every micro-batch."""
    one = trained * model.size * (ranks - 1) / ranks / (gb_s * GIGA)
    per_micro_batch = {0: 0, 1: 0, 2: 1, 3: 3}[zero_stage]
    per_update = {0: 2 * 4 / model.size, 1: 3, 2: 1, 3: 0}[zero_stage]
    return Communication(micro_batch_s=per_micro_batch * one, update_s=per_update * one)
