"""A sync that ends short leaves a model that the next one mends, by vLLM's own reload."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may

SHAPES = {"first.weight": (2, 3), "second.weight": (2, 2)}


@pytest.fixture
def model():
    from vllm.model_executor.model_loader.reload.layerwise import record_metadata_for_reloading
    from vllm.model_executor.models.utils import WeightsMapper

    from rollout.vllm.served import ServedModel

    class Small(ServedModel):
        hf_to_vllm_mapper = WeightsMapper()
        shapes = SHAPES

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.config = SimpleNamespace(tie_word_embeddings=False)
            self.first, self.second = nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)

    found = Small()
    record_metadata_for_reloading(found)
    return found


def weights(value: float, *names: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, torch.full(SHAPES[name], value)) for name in names]


def reload(model: nn.Module, tensors: list[tuple[str, torch.Tensor]]) -> None:
    """As `WeightSyncExtension._pangu_load` has vLLM's runner do."""
    from vllm.model_executor.model_loader.reload.inplace import reload_weights

    config = SimpleNamespace(
        model_config=SimpleNamespace(dtype=torch.float32, quantization=None), load_config=None, lora_config=None
    )
    reload_weights(config, model, iter(tensors), None, True)


def test_a_sync_that_ends_short_is_mended_by_the_next(model: nn.Module) -> None:
    model.load_weights(weights(1.0, *SHAPES))
    reload(model, weights(2.0, "first.weight"))
    assert all(not tensor.is_meta for tensor in model.parameters())
    reload(model, weights(3.0, *SHAPES))
    assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in weights(3.0, *SHAPES))


def test_a_start_that_lacks_a_tensor_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"1 tensors are missing from the checkpoint, the first is second\.weight"):
        model.load_weights(weights(1.0, "first.weight"))
