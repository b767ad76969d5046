"""What `pangu-rl curate` can prepare: a name -> a function that fills a directory, and its place in the cache."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_curation.corpus import build
from data_curation.sources import easy_vqa, few_rows, mini_pangu_vl, smollm2, text_prompts, tiny_pangu_vl
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to prepare."""

    prepare: Callable[[Path], Path]
    home: str
    """Where the shipped configurations look for it."""


TARGETS = {
    "smollm2": Target(smollm2.prepare, smollm2.HOME),
    "text-prompts": Target(text_prompts.prepare, "cache://data/text_prompts"),
    "tiny-pangu-vl": Target(tiny_pangu_vl.prepare, "cache://models/tiny-pangu-vl"),
    "easy-vqa": Target(easy_vqa.prepare, "cache://data/easy_vqa"),
    "mini-corpus": Target(build.prepare, build.HOME),
    "few-rows": Target(few_rows.prepare, few_rows.HOME),
    "mini-pangu-vl": Target(mini_pangu_vl.prepare, mini_pangu_vl.HOME),
}


def curate(name: str, directory: Path | None = None) -> Path:
    """Prepare target `name` in `directory`, by default its home; what is there already is kept.

    Raises:
        ConfigError: no such target.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(TARGETS)}"
        raise ConfigError(f"curate: unknown target {name!r}: {hint}")
    target = TARGETS[name]
    return target.prepare(directory or resolve_path(target.home))
