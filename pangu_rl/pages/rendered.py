"""A package's `page.html.j2` and `page.css` -> **one page without scripts or links**, all text in it escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def rendered(package: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None) -> str:
    """The template with `values`, `style` and `style_hash`, which its policy names: a style from anywhere else is not
    applied. Lone surrogates, which no file can hold, are question marks."""
    style = resources.files(package).joinpath("page.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    style_hash = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    page = environment.get_template("page.html.j2").render(style=Markup(style), style_hash=style_hash, **values)
    return page.encode("utf-8", "replace").decode("utf-8")
