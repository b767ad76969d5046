"""The documentation against the program: commands and their options exist, configurations load, the reference is new.

Links are checked by `make docs`.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from pangu_rl.cli import app
from pangu_rl.cli.app import STAGES, load_stage
from pangu_rl.config.names.shipped import shipped
from pangu_rl.config.pages.reference import reference
from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.pairs import parse_pair
from pangu_rl.data.prompts import parse_prompt
from rewards.registry import BUILT_IN
from tests.contracts.source_tree import PACKAGES, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = ROOT / "docs/settings.md"
USERS = re.compile(r"(.*/)?(my_)?(grpo|sft|dpo|eval|pretrain|x)\.yaml|[A-Z_]+(\.yaml)?|.*\$.*")
"""Files that a reader has, and placeholders."""
PROGRAM = get_command(app)
NAMED = frozenset(re.findall(r"`(pangu-rl [^`]+)`", " ".join(page.read_text("utf-8") for page in PAGES)))
"""In the midst of a sentence, where a command may stand without all that it needs."""


def command_lines(page: Path) -> Iterator[str]:
    """`pangu-rl ...` of fenced blocks and of inline code, which may leave out what is needed."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL))
    inline = re.findall(r"`(pangu-rl [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in (*fenced.splitlines(), *(" ".join(code.split()) for code in inline)):
        for part in map(str.strip, re.split(r"&&|\||;", re.sub(r"\s#\s.*", "", line))):
            if part.startswith("pangu-rl ") and not re.search(r"\.\.\.|STAGE|--help|'$", part):
                yield part


LINES = sorted({line for page in PAGES if page != GENERATED for line in command_lines(page)})


def parsed(line: str) -> tuple[str, dict]:
    """The command and its parameters; raises what typer raises for an option or a command that does not exist."""
    words = shlex.split(line)[1:]
    context = PROGRAM.make_context("pangu-rl", words, resilient_parsing=False)
    group, names = PROGRAM, []
    while hasattr(group, "commands"):
        name, group, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        names.append(name)
        context = group.make_context(name, rest, parent=context)
    return " ".join(names), context.params


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_documentation_is_one_of_the_program(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    try:
        command, parameters = parsed(line)
    except Exception as error:
        # typer's own classes are not public.
        if line in NAMED and type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"):
            return
        raise
    config, stage = parameters.get("config"), parameters.get("stage") or command
    if config is None or USERS.fullmatch(str(config)) or stage not in STAGES:
        return
    file = shipped(config)
    assert file.is_file(), f"{line}: no configuration {config}"
    overrides = [text for text in parameters.get("overrides") or () if not re.search(r"=[A-Z.]*$|\$", text)]
    load_stage(stage, file, overrides)


def test_there_are_commands_to_check() -> None:
    assert len(LINES) > 60
    with pytest.raises(Exception, match="No such option"):
        parsed("pangu-rl grpo --config x.yaml --no-such-option")
    with pytest.raises(Exception, match="No such command"):
        parsed("pangu-rl nosuch")


def test_configurations_named_by_path_are_there() -> None:
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(r"`((?:configs|examples|benchmarks|tests)/[\w./-]+\.\w+)`", page.read_text("utf-8"))
    }
    assert named
    assert not sorted((page, path) for page, path in named if not (ROOT / path).exists())


def test_the_reference_of_settings_is_up_to_date() -> None:
    assert GENERATED.read_text(encoding="utf-8") == reference(), "run `make reference`"


def test_each_kind_of_row_is_what_its_stage_reads() -> None:
    """Every JSON row of the page of formats, by the heading above it."""
    kinds = {"Conversations": parse_conversation, "Preferences": parse_pair, "Questions": parse_prompt}
    kinds |= {"With pictures": parse_prompt, "With videos": parse_prompt, "With tools": parse_conversation}
    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    read = 0
    for section in page.split("\n## ")[1:]:
        parse = next((parse for title, parse in kinds.items() if section.startswith(title)), None)
        for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
            row = json.loads(block)
            if parse is not None:
                parse(row, "1")
                read += 1
    assert read == 8


def test_numbers_of_a_step_are_ones_that_the_program_writes() -> None:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    section = page.partition("## Numbers of a step")[2].partition("\n## ")[0]
    names = re.findall(r"`([a-z]+/([a-z_]+))`", section)
    code = "".join(path.read_text("utf-8") for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    assert len(names) > 20
    assert not [name for name, last in names if f'"{name}"' not in code and f'"{last}"' not in code]


def test_every_built_in_reward_is_described() -> None:
    page = (ROOT / "docs/rewards.md").read_text(encoding="utf-8")
    assert not [name for name in BUILT_IN if f"`{name}`" not in page]


def test_every_page_stands_in_the_menu_once() -> None:
    menu = yaml.safe_load(re.sub(r"!!python\S*", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))["nav"]

    def pages(entries: list) -> Iterator[str]:
        for entry in entries:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    assert sorted(pages(menu)) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_python_of_the_pages_compiles_and_its_imports_exist() -> None:
    blocks = [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    for page, block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{page}: {node.module} has no {', '.join(missing)}"
    assert len(blocks) > 8


def test_every_benchmark_that_is_a_command_says_what_it_takes() -> None:
    """benchmarks/README.md sends its reader to `--help`; one that reads no arguments would begin to measure."""
    calls = re.compile(r'^if __name__ == "__main__":\n    main\(\)', re.MULTILINE)
    texts = {path: path.read_text("utf-8") for path in (ROOT / "benchmarks").rglob("*.py")}
    commands = {path for path, text in texts.items() if calls.search(text)}
    assert len(commands) > 20
    assert not [path.name for path in commands if ".parse_" not in texts[path]]
