"""Configurations of openPangu-VL and MindVL: `config.json` -> **vision tower, text backbone, token ids** -> models."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from pangu_rl.errors import ConfigError
from pretrain.models.positions import VisionTokens
from pretrain.models.rope import default_sections

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
POSITION_SCHEMES = ("accumulative", "sequential")
MROPE_KEYS = ("mrope_section", "mrope_interleaved")


class PanguVisionConfig(PreTrainedConfig):
    """The tower and its connector; the defaults are openPangu-VL-7B's."""

    model_type = "openpangu_vit"
    base_config_key = "vision_config"

    depth: int = 26
    hidden_size: int = 1536
    num_heads: int = 16
    intermediate_size: int = 4608
    hidden_act: str = "gelu"
    """`gelu`: two matrices; `silu`: three, with a gate, as in Qwen2.5-VL."""
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    in_channels: int = 3
    window_size: int = 112
    """Pixels."""
    fullatt_block_indexes: list[int] | tuple[int, ...] = (5, 12, 19, 25)
    mm_unit_vision_select_layer: list[int] | tuple[int, ...] = (-1, -3)
    """Blocks whose features are merged, the deepest first."""
    out_hidden_size: int = 3584
    """Width of the mergers' output, before the projection to the language model."""
    rms_norm_eps: float = 1e-6
    connector: str = "hierarchical"
    """`hierarchical`: a merger per selected block, their sum, a projection; `mlp`: one merger to the language model."""
    final_layernorm: bool = True
    image_mean: list[float] | tuple[float, ...] = tuple(CLIP_MEAN)
    image_std: list[float] | tuple[float, ...] = tuple(CLIP_STD)
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        # The released file's name for it.
        self.in_channels = kwargs.pop("in_chans", self.in_channels)
        super().__post_init__(**kwargs)


class PanguVLConfig(PreTrainedConfig):
    """openPangu-VL over any causal language model.

    A flat file, as released, has the language model's fields at its top level: openPangu's is a Llama with biases on
    all four projections of its attention. `text_config.rope_parameters` holds `mrope_section` and `mrope_interleaved`;
    without them the sections are `default_sections` of the head size.
    """

    model_type = "openpangu_vl"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig, "vision_config": PanguVisionConfig}
    vision_defaults: ClassVar[dict[str, Any]] = {}
    interleaved_rope: ClassVar[bool] = True

    text_config: Any = None
    vision_config: Any = None
    image_token_id: int = 46005
    video_token_id: int = 144208
    vision_start_token_id: int = 45986
    vision_end_token_id: int = 46007
    position_scheme: str = "accumulative"
    """`accumulative`: pictures span rows and columns; `sequential`: 0, 1, 2, ... on all axes, which is plain RoPE."""
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.position_scheme not in POSITION_SCHEMES:
            raise ConfigError(f"position_scheme is {self.position_scheme!r}: one of {', '.join(POSITION_SCHEMES)}")
        if not isinstance(self.vision_config, PreTrainedConfig):
            self.vision_config = PanguVisionConfig(**(self.vision_defaults | (self.vision_config or {})))
        text = _flat_text_config(kwargs) if self.text_config is None else self.text_config
        self.text_config = deepcopy(text) if isinstance(text, PreTrainedConfig) else _text_config(text)
        self._complete_rope(self.text_config)
        # They name the released repository's code, and this is ours.
        kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        self.tie_word_embeddings |= bool(getattr(self.text_config, "tie_word_embeddings", False))
        self.text_config.tie_word_embeddings = self.tie_word_embeddings

    def _complete_rope(self, text: PreTrainedConfig) -> None:
        rope = getattr(text, "rope_parameters", None)
        if not rope or any(isinstance(value, dict) for value in rope.values()):
            raise ConfigError(
                f"text_config.model_type {text.model_type}: no rotary embedding that all its layers share"
            )
        if "mrope_section" not in rope:
            head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
            rope["mrope_section"] = default_sections(head_size // 2, interleaved=self.interleaved_rope)
            rope["mrope_interleaved"] = self.interleaved_rope
        # An attribute of the object alone, which transformers does not write to files.
        text.ignore_keys_at_rope_validation = set(MROPE_KEYS)


QWEN_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3456,
    "hidden_act": "silu",
    "fullatt_block_indexes": (7, 15, 23, 31),
    "mm_unit_vision_select_layer": (-1,),
    "connector": "mlp",
    "final_layernorm": False,
}
"""The tower of Qwen2.5-VL-72B, which MindVL starts from."""


class MindVLConfig(PanguVLConfig):
    """MindVL: the tower of Qwen2.5-VL, one perceptron over 2x2 patches, Qwen3.

    The paper says nothing of the language model's positions. The default is the scheme of Qwen2.5-VL, whose tower it
    is: a run of frequencies for each axis; `position_scheme` "sequential" leaves Qwen3 as it was.
    """

    model_type = "mindvl"
    vision_defaults: ClassVar[dict[str, Any]] = QWEN_TOWER
    interleaved_rope: ClassVar[bool] = False

    image_token_id: int = 151655
    video_token_id: int = 151656
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = {"model_type": "qwen3"}
        super().__post_init__(**kwargs)


def vision_tokens(config: PanguVLConfig) -> VisionTokens:
    """What positions and placeholders need to know of a model."""
    return VisionTokens(
        image=config.image_token_id,
        video=config.video_token_id,
        start=config.vision_start_token_id,
        end=config.vision_end_token_id,
        sequential=config.position_scheme == "sequential",
    )


def _text_config(fields: dict[str, Any]) -> PreTrainedConfig:
    """The language model's configuration; sections go past the check of its own class, which knows none."""
    fields = deepcopy(fields)
    kind = fields.pop("model_type", "llama")
    if kind not in CONFIG_MAPPING:
        raise ConfigError(f"text_config.model_type is {kind!r}: no language model of this transformers")
    rope = (fields.pop("rope_scaling", None) or {}) | (fields.pop("rope_parameters", None) or {})
    sections = {name: rope.pop(name) for name in MROPE_KEYS if name in rope}
    # Both names of the type are in use, and Qwen calls unscaled frequencies in sections "mrope".
    names = [rope.pop(name, None) for name in ("rope_type", "type")]
    if rope or sections or any(names):
        kind_of_rope = next(filter(None, names), "default")
        fields["rope_parameters"] = rope | {"rope_type": "default" if kind_of_rope == "mrope" else kind_of_rope}
    text = CONFIG_MAPPING[kind](**fields)
    if sections:
        text.rope_parameters |= sections
    return text


def _flat_text_config(flat: dict[str, Any]) -> dict[str, Any]:
    """The language model's fields out of a released file's top level; they leave `flat`."""
    llama = CONFIG_MAPPING["llama"]
    own = set(PreTrainedConfig().to_dict())
    names = set(llama().to_dict()) - own | {"rope_theta", "rope_scaling"}
    fields = {name: flat.pop(name) for name in names & set(flat)}
    return fields | {"model_type": "llama", "attention_bias": bool(flat.pop("bias", False))}
