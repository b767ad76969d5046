"""MindVL: the tower of Qwen2.5-VL, a perceptron over 2x2 patches, Qwen3."""

from __future__ import annotations

from pretrain.models.configuration import MindVLConfig
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration


class MindVLForConditionalGeneration(PanguVLForConditionalGeneration):
    """The same tree of submodules; the configuration makes the difference."""

    config_class = MindVLConfig
