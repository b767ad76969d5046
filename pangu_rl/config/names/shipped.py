"""The configurations that come with the program: **`quickstart/grpo_text` is found wherever one stands**."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

FOLDER = "configs"
SHIPPED = Path(__file__).parents[2] / FOLDER
"""In an installed package as in a checkout, where it is a link to the folder of that name."""


def shipped(path: str | Path) -> Path:
    """`path` itself if it is there; else the shipped file of that name, with or without `configs/` and `.yaml`; else
    `path` again."""
    given = Path(path)
    if given.exists() or given.is_absolute():
        return given
    name = given.relative_to(FOLDER) if given.parts[:1] == (FOLDER,) else given
    candidates = (SHIPPED / name, SHIPPED / f"{name}.yaml")
    return next((file for file in candidates if file.is_file() and ".." not in name.parts), given)


def beside(path: str, folder: Path) -> Iterator[Path]:
    """Where a relative path of a configuration in `folder` may lie when it is not in the working directory."""
    yield folder / path
    if Path(path).parts[:1] == (FOLDER,):
        yield SHIPPED.parent / path


def shipped_names(folder: str) -> list[str]:
    """Of the configurations in a folder of the shipped ones."""
    return sorted(file.stem for file in (SHIPPED / folder).glob("*.yaml"))


def likely_file(path: Path) -> str:
    """The way out of a configuration `path` that is not there: one of nearly that name, beside it or shipped, else
    where those are that are shipped."""
    ours = {str(file.relative_to(SHIPPED).with_suffix("")): file for file in SHIPPED.glob("*/*.yaml")}
    name = str(path.relative_to(FOLDER) if path.parts[:1] == (FOLDER,) else path)
    own = [str(file) for file in path.parent.glob("*.y*ml")]
    for given, known in ((str(path), own), (name.removesuffix(path.suffix), ours)):
        if near := difflib.get_close_matches(given, known, n=1, cutoff=0.75):
            return f"did you mean {near[0]}?"
    folder = name.partition("/")[0]
    if there := shipped_names(folder):
        return f"in {folder} there are {', '.join(there)}"
    folders = sorted({file.parent.name for file in ours.values()})
    return (
        f"`pangu-rl init STAGE` writes one, and shipped ones go by names such as quickstart/grpo_text: they are in "
        f"{', '.join(folders)}"
    )
