"""Does an engine hold what the learner published? Names first, digests after. Manifest -> **checks** -> engine.

An inference engine fuses and repacks its tensors while it loads them, and leaves a tensor that never came as it was
(or, in a fused layer, as uninitialised memory) with a line in its log. So names are compared before anything is
touched, and what is compared afterwards are the bytes that the engine's loader was handed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pangu_rl.checkpoint.adapter_folder import SIDES, parameter_name
from pangu_rl.checkpoint.model_folder import model_config, weight_files
from pangu_rl.errors import DataError, WeightSyncError
from pangu_rl.records import WeightManifest
from pretrain.families import family_of

TIED = "lm_head.weight"
"""With tied embeddings some checkpoints repeat the embedding under this name, and some do not."""


@dataclass(frozen=True, slots=True)
class Required:
    """The tensors of the checkpoint that an engine started from: a sync must replace all."""

    names: frozenset[str]
    one_name: Callable[[str], str]
    """Gives one name to what checkpoints of different ages call differently; `names` have gone through it."""


def required_names(model_path: Path) -> Required:
    """Of the model in a folder.

    Raises:
        DataError: the folder is no model, or has no weights.
    """
    config = model_config(model_path)
    family = family_of(config, model_path)
    one_name = str if family is None else family.learned_name
    names = {one_name(name) for file in weight_files(model_path) for name in _tensor_names(file)}
    return Required(frozenset(names - {TIED} if config.get("tie_word_embeddings", False) else names), one_name)


def check_names(manifest: WeightManifest, required: Required) -> None:
    """Refuse a manifest that leaves a tensor of the model out, or has one the model does not know.

    Raises:
        WeightSyncError: names the tensors.
    """
    if manifest.adapter is not None:
        return _check_sides(manifest)
    published = {required.one_name(tensor.name) for tensor in manifest.tensors}
    if missing := sorted(required.names - published):
        raise WeightSyncError(
            f"weights version {manifest.version}: {_list(missing)} missing from the {len(published)} tensors "
            f"published; the engine's model has {len(required.names)}. Nothing was loaded"
        )
    if unknown := sorted(published - required.names - {TIED}):
        raise WeightSyncError(
            f"weights version {manifest.version}: {_list(unknown)} published, but the engine's model has no such "
            "tensor (is model.path the learner's model?). Nothing was loaded"
        )


def check_digests(manifest: WeightManifest, consumed: Mapping[str, str]) -> None:
    """Compare what an engine consumed with what the learner published, tensor by tensor.

    Raises:
        WeightSyncError: names the first tensor that differs, with both digests, and how many more do.
    """
    wrong = [tensor for tensor in manifest.tensors if consumed.get(tensor.name) != tensor.digest]
    if wrong:
        first, others = wrong[0], f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise WeightSyncError(
            f"weights version {manifest.version}: tensor {first.name} has digest {first.digest} at the learner and "
            f"{consumed.get(first.name, 'none, it was never consumed')} at the engine{others}"
        )


def _check_sides(manifest: WeightManifest) -> None:
    """An adapter has both its sides for each layer that its configuration names, and no others."""
    layers = manifest.adapter["target_modules"]
    wanted = {parameter_name(layer, side) for layer in layers for side in SIDES}
    if differing := sorted(wanted ^ {tensor.name for tensor in manifest.tensors}):
        raise WeightSyncError(
            f"weights version {manifest.version}: {_list(differing)} published or named by the adapter's configuration "
            f"of {len(layers)} layers, and not both. Nothing was loaded"
        )


def _tensor_names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise DataError(f"{file}: not a whole safetensors file ({error}); fetch or export the model again") from None


def _list(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
