"""What the corpus is made of: a name -> a function that yields samples of one split, and how many are wanted of all.

A family draws from its own random numbers and from source items of its split alone, so that families and splits can be
made in any order, on any number of processes, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from data_curation.corpus.documents import charts, forms, grids, maps, pages, screens, stem, text_lines
from data_curation.corpus.materials import Materials
from data_curation.corpus.pictures import (
    captions,
    clips,
    depth,
    dialogues,
    interleaved,
    plain,
    puzzles,
    questions,
    several,
    things,
    tilted,
)
from data_curation.corpus.texts import plain_texts as texts
from data_curation.schema import Sample
from data_curation.sources.items import Split


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of samples."""

    samples: Callable[[Materials, Split, Random], Iterator[Sample]]
    count: int
    """Samples wanted of all splits together, at scale 1."""


FAMILIES: dict[str, Family] = {
    "charts": Family(charts.charts, 500),
    "clips": Family(clips.clips, 260),
    "counting": Family(things.counting, 900),
    "grounding": Family(things.grounding, 800),
    "captions": Family(captions.captions, 900),
    "interleaved": Family(interleaved.interleaved, 300),
    "several": Family(several.several, 300),
    "dialogues": Family(dialogues.dialogues, 300),
    "pages": Family(pages.pages, 350),
    "page_lines": Family(pages.page_lines, 300),
    "maps": Family(maps.maps, 400),
    "depth": Family(depth.depth, 350),
    "pointing": Family(things.pointing, 400),
    "quads": Family(tilted.quads, 300),
    "point_counts": Family(things.point_counts, 300),
    "text_lines": Family(text_lines.text_lines, 450),
    "forms": Family(forms.forms, 200),
    "grids": Family(grids.grids, 350),
    "printed": Family(stem.printed, 300),
    "figures": Family(stem.figures, 250),
    "cells": Family(puzzles.grids_to_count, 300),
    "rules": Family(puzzles.rules, 150),
    "shapes": Family(questions.shapes, 500),
    "plain_counts": Family(plain.counts, 4000),
    "plain_boxes": Family(plain.boxes, 6000),
    "plain_colours": Family(plain.colours, 3000),
    "garments": Family(questions.garments, 250),
    "flags": Family(questions.flags, 150),
    "odd_garments": Family(several.odd_garments, 100),
    "screens": Family(screens.screens, 350),
    "packaged": Family(texts.packaged, 500),
    "sums": Family(texts.sums, 250),
    "translations": Family(texts.translations, 200),
}
