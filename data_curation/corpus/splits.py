"""Which split a source item is in: what is trained on, what RL asks, and what is held out share none."""

from __future__ import annotations

from data_curation.sources.items import Split, split_of

SHARES: dict[Split, float] = {"sft": 0.64, "train": 0.20, "heldout": 0.16}
CLIPS: dict[str, Split] = {"clip:bigbuckbunny": "sft", "clip:bikes": "train", "clip:carphone": "heldout"}
"""Three clips, one for each: their digests would not deal them so."""


def in_split(key: str, split: Split) -> bool:
    """Whether the source item of this key belongs to `split`: a function of the key alone."""
    return CLIPS.get(key, split_of(f"corpus/{key}", SHARES["heldout"], SHARES["sft"])) == split
