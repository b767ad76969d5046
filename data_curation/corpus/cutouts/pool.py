"""All things of a split to place in pictures: stamps, emoji, drawn shapes; and some that look like no other."""

from __future__ import annotations

from random import Random

from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.drawn_shapes import shapes
from data_curation.corpus.cutouts.emoji_things import emoji
from data_curation.corpus.cutouts.stamps import stamps
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Language
from data_curation.sources.items import Split


def cutouts(materials: Materials, split: Split) -> list[Cutout]:
    """All of a split with a name to ask for, stamps first, in a fixed order."""
    everything = [*stamps(materials), *emoji(materials), *shapes()]
    return [cutout for cutout in everything if in_split(cutout.key, split)]


def distinct(rng: Random, pool: list[Cutout], count: int, language: Language) -> list[Cutout]:
    """`count` cutouts of which none could be taken for another; fewer if the pool has no more."""
    chosen: list[Cutout] = []
    heads: set[str] = set()
    for cutout in rng.sample(pool, min(len(pool), 12 * count)):
        if language in cutout.names and not cutout.heads & heads:
            chosen.append(cutout)
            heads |= cutout.heads
        if len(chosen) == count:
            break
    return chosen
