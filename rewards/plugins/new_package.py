"""A name -> **a small package** with a reward function, its test, and the entry point that makes it a plugin."""

from __future__ import annotations

import keyword
import re
import sys
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from string import Template

from pangu_rl.errors import ConfigError
from rewards.registry import BUILT_IN, ENTRY_POINT_GROUP

FILES = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    "src/{name}/__init__.py": "reward.py.tmpl",
    "tests/test_{name}.py": "test_reward.py.tmpl",
}
"""Path in the package -> its template."""


def new_package(name: str, output: Path) -> list[Path]:
    """Write the package into `output`, a new folder or an empty one; returns its files.

    Raises:
        ConfigError: a name that cannot be one, or is taken; a folder with something in it, or that cannot be written.
    """
    _check_name(name)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} exists and is not empty: name another folder with --output")
    templates = resources.files(__package__).joinpath("template")
    names = {"name": name, "distribution": name.replace("_", "-"), "group": ENTRY_POINT_GROUP}
    written = []
    for path, template in FILES.items():
        text = Template(templates.joinpath(template).read_text(encoding="utf-8")).substitute(names)
        file = output / path.format(name=name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output}: {error.strerror}: name another folder with --output") from None
        written.append(file)
    return written


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is no name for a reward: small letters, digits and _, such as short_answer")
    if name in BUILT_IN:
        raise ConfigError(f"{name} is a built-in reward: choose another name")
    if name in {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}:
        raise ConfigError(f"{name} is an installed plugin: choose another name")
    if name in sys.stdlib_module_names or name in ("pangu_rl", "rollout", "rewards", "pretrain", "data_curation"):
        raise ConfigError(f"{name} is the name of a module that is there already: choose another name")
