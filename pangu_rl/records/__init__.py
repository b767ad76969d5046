"""Plain data that crosses stages: prompts -> requests -> completions -> scores -> groups -> packs -> metrics.

Stages talk by these records and never import each other. Everything here is plain Python and numpy, so a record
travels through Ray, Parquet and tests alike. Lengths in brackets: T tokens, N completions, S segments, M targets.
"""

from __future__ import annotations

from pangu_rl.records.evaluations import Evaluation
from pangu_rl.records.packs import MiniBatch, Pack, PackLike
from pangu_rl.records.prompts import Clip, Picture, Prompt
from pangu_rl.records.rollouts import (
    Begun,
    Completion,
    FinishReason,
    Progress,
    RolloutRequest,
    SamplingParams,
    Scorable,
)
from pangu_rl.records.scores import Extraction, Group, Outcome, Part, Score, Vote
from pangu_rl.records.tags import CONTENT_TAGS, GROUNDING_TAGS, THINK_OPEN, THINKING
from pangu_rl.records.weights import WeightManifest, WeightTensor

__all__ = [
    "CONTENT_TAGS",
    "GROUNDING_TAGS",
    "THINKING",
    "THINK_OPEN",
    "Begun",
    "Clip",
    "Completion",
    "Evaluation",
    "Extraction",
    "FinishReason",
    "Group",
    "MiniBatch",
    "Outcome",
    "Pack",
    "PackLike",
    "Part",
    "Picture",
    "Progress",
    "Prompt",
    "RolloutRequest",
    "SamplingParams",
    "Scorable",
    "Score",
    "Vote",
    "WeightManifest",
    "WeightTensor",
]
