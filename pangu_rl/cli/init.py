"""`pangu-rl init`: **a configuration, rows and a reward to start from**, which run as they are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from pangu_rl.cli.app import app
from pangu_rl.cli.program import SET_UP
from pangu_rl.errors import ConfigError

FILES = {
    "grpo": ("grpo.yaml", "grpo_rows.jsonl", "grpo_heldout.jsonl", "my_reward.py"),
    "sft": ("sft.yaml", "sft_rows.jsonl"),
    "dpo": ("dpo.yaml", "dpo_rows.jsonl"),
    "eval": ("eval.yaml", "grpo_heldout.jsonl", "my_reward.py"),
}
"""Stage -> what is written for it; stages that share a file use the same one."""
SMALL = "models/smollm2-135m-instruct"
"""In the cache, where `pangu-rl curate smollm2` puts it."""
SMALL_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


@app.command(rich_help_panel=SET_UP)
def init(
    stage: Annotated[str, typer.Argument(help=f"{', '.join(FILES)}.")],
    output: Annotated[Path, typer.Option(help="Folder that the files go to.")] = Path("."),
    model: Annotated[
        str | None, typer.Option(help="Folder, hub id or run directory; by default SmolLM2-135M, 270 MB.")
    ] = None,
) -> None:
    """Write a configuration, rows and a reward that run.

    Each is small and commented, to be filled with your own. Files that are there already are kept.
    """
    for file, is_new in write_starter(stage, output, model or small_model()):
        typer.echo(file if is_new else f"{file} (kept)")
    config = output / f"{stage}.yaml"
    typer.echo(f"next: pangu-rl config check {stage} --config {config} && pangu-rl {stage} --config {config}", err=True)


def write_starter(stage: str, output: Path, model: str) -> list[tuple[Path, bool]]:
    """The files of `stage`, and of each whether it is written now.

    Raises:
        ConfigError: a stage without a starter, a configuration of that name is there already, or a folder that cannot
            be written.
    """
    if stage not in FILES:
        raise ConfigError(
            f"init has no starter for {stage!r}: there are {', '.join(FILES)}; `pangu-rl config show STAGE --config "
            "NAME` shows a shipped configuration of any other"
        )
    if (output / f"{stage}.yaml").exists():
        raise ConfigError(f"{output / f'{stage}.yaml'} is there already: name another folder with --output")
    templates, written = resources.files(__package__).joinpath("starters"), []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in FILES[stage]:
            file, text = output / name, templates.joinpath(name).read_text(encoding="utf-8")
            written.append((file, not file.exists()))
            if not file.exists():
                file.write_text(Template(text).safe_substitute(model=model), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror}: name another folder with --output") from None
    return written


def small_model() -> str:
    """The smallest model that speaks: of the cache if it is there, else of the hub."""
    from pangu_rl.config.paths import CACHE_SCHEME, cache_root

    return f"{CACHE_SCHEME}{SMALL}" if (cache_root() / SMALL).is_dir() else SMALL_ON_HUB
