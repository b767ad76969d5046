"""A vision-language model in vLLM. uint8 patches and ids -> **the learner's tower, vLLM's text model** -> logits.

The tower is the module that trains; the text model is vLLM's own of the same kind, with its attention and cache. What
differs between models stands in `pangu_vl` and `families`. Letters: T tokens, P patches, I pictures, E hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn
from vllm.model_executor.models.interfaces import MultiModalEmbeddings, SupportsMRoPE, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.sequence import IntermediateTensors

from pretrain.families.family import Family
from rollout.vllm.multimodal import GRIDS, PIXELS


class ServedModel(nn.Module, SupportsMultiModal, SupportsMRoPE, SupportsPP):
    """A child sets these before it is used."""

    family: Family
    language_model: nn.Module
    hf_to_vllm_mapper: WeightsMapper
    """From the names of any checkpoint to those of the modules here."""
    _is_whole = False
    """Whether all tensors have come once."""
    shapes: dict[str, tuple[int, ...]]
    """Of each tensor that a checkpoint may have, by its place in the model, before vLLM fuses or ties any."""

    def encode(self, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """Features of all pictures end to end, a row for each token."""
        raise NotImplementedError

    def embed_multimodal(self, **kwargs: torch.Tensor) -> MultiModalEmbeddings:
        """Features of every picture, [its tokens, E] each; all pictures of a call go through the tower together."""
        features: list[torch.Tensor] = []
        for modality, name in PIXELS.items():
            if (patches := kwargs.get(name)) is not None:
                grids = kwargs[GRIDS[modality]]
                features += self.encode(patches, grids).split((grids.prod(-1) // self.family.merge**2).tolist())
        return features

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[MultiModalFeatureSpec]
    ) -> tuple[torch.Tensor, int]:
        """(positions int64 [3, T], what to add to a later token's index to get its position).

        A placeholder id outside of all pictures is a token like any other: a prompt may quote it, a model may draw it.
        """
        ids, covered, grids = np.array(input_tokens), np.zeros(len(input_tokens), bool), []
        for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset):
            place = feature.mm_position
            covered[place.offset : place.offset + place.length] = True
            grids.append(tuple(feature.data[GRIDS[feature.modality]].data.tolist()))
        ids[~covered & np.isin(ids, list(self.family.placeholders))] = -1
        positions = self.family.positions(ids, grids)
        return torch.from_numpy(positions), int(positions.max()) + 1 - len(ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Last hidden states [T, E]; positions [3, T], or [T] without M-RoPE."""
        return self.language_model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a whole checkpoint, by the names of either style; at the start and at every sync. A sync is known to be
        whole by its names and digests; one whose broadcast breaks is not, and ends without an error here, so that vLLM
        puts its layers in order again.

        Raises:
            ValueError: a tensor is unknown, of another shape or, at the start, missing; vLLM's own loaders let some of
                that pass.
        """
        mapper, seen = self.hf_to_vllm_mapper, set()
        loaded = AutoWeightsLoader(self).load_weights(self._checked(weights, seen), mapper=mapper)
        tied = {"language_model.lm_head.weight"} if self.config.tie_word_embeddings else set()
        missing = sorted(self.shapes.keys() - seen - tied)
        if missing and not self._is_whole:
            raise ValueError(f"{len(missing)} tensors are missing from the checkpoint, the first is {missing[0]}")
        self._is_whole = True
        return loaded

    def _checked(
        self, weights: Iterable[tuple[str, torch.Tensor]], seen: set[str]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            (place,) = self.hf_to_vllm_mapper.apply_list([name])
            found, expected = tuple(tensor.shape), self.shapes.get(place)
            if found != expected:
                has = f"{list(expected)}" if expected else "no such tensor"
                raise ValueError(f"tensor {name} has shape {list(found)} in the checkpoint; the model has {has}")
            seen.add(place)
            yield name, tensor
