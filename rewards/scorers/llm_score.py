"""The panel as a reward function: `llm_score` in a rubric. A value from 1 to 5, so give it a small weight.

Panels live in one thread of the process, whatever event loop asks: their connections, limits and counts are shared.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from typing import TYPE_CHECKING

from pangu_rl.errors import ConfigError
from pangu_rl.records import Completion, Part, Prompt
from rewards.base import whole_answer
from rewards.rules.boxed_answer import answer_part
from rewards.scorers.records import Backend, ScoredItem

if TYPE_CHECKING:
    from pangu_rl.config.sections.scorers import ScorerConfig
    from rewards.scorers.panel import ScorerPanel

_panels: dict[str, asyncio.Task[ScorerPanel]] = {}
"""By configuration file; touched by the panels' thread alone."""
_starting = threading.Lock()


async def llm_score(prompt: Prompt, completion: Completion, *, config: str) -> Part:
    """The value that the panel of the file `config` (a `ScorersConfig` in YAML) gives, or no verdict with the reasons.

    Raises:
        ConfigError: the file, or the panel that it describes, cannot be used; or the prompt shows videos.
        RunError: a token budget is spent, or a scorer fell for too many canaries.
    """
    if prompt.videos:
        raise ConfigError(f"{prompt.uid} shows videos, and scorers see none: grade such rows by rules")
    return await score_item(item_of(prompt, completion), config)


async def score_item(item: ScoredItem, config: str) -> Part:
    """The panel's value of any item, in whatever event loop; raises as `llm_score`."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_score(item, config), _panel_loop()))


def item_of(prompt: Prompt, completion: Completion) -> ScoredItem:
    """What scorers see of a completion: no thinking (all of it, while it is still open), and nothing of its reward."""
    return ScoredItem(
        uid=completion.uid,
        question=_conversation(prompt),
        response=answer_part(whole_answer(prompt, completion)) or "",
        reference=prompt.answer,
        pictures=prompt.images,
    )


async def _score(item: ScoredItem, config: str) -> Part:
    if config not in _panels:
        _panels[config] = asyncio.create_task(_make_panel(config))
    # Whoever gives up waiting must not take the panel from the others.
    panel = await asyncio.shield(_panels[config])
    return (await panel.score(item)).part()


async def _make_panel(config: str) -> ScorerPanel:
    # Imported late: the endpoints' client is heavy, and whoever scores by rules never needs it.
    from pangu_rl.config.load import load_config
    from pangu_rl.config.sections.scorers import ScorersConfig
    from rewards.scorers.panel import ScorerPanel

    scorers = load_config(ScorersConfig, config)
    return ScorerPanel(scorers, await _engines([scorer for scorer in scorers.scorers if scorer.engine is not None]))


async def _engines(scorers: list[ScorerConfig]) -> dict[str, Backend]:
    if not scorers:
        return {}
    # Ray is there whenever there are engines; endpoints do without it.
    from rewards.scorers.actor import find_engine

    return {scorer.name: await find_engine(scorer) for scorer in scorers}


def _panel_loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _started_loop()


@functools.cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="scorers").start()
    return loop


def _forget_panels() -> None:
    """A forked process has none of the parent's threads: it makes panels of its own."""
    global _panels, _starting
    _left_behind.append(_panels)
    _panels, _starting = {}, threading.Lock()
    _started_loop.cache_clear()


_left_behind: list[object] = []
"""The parent's panels: SQLite forbids that a forked process closes their connections."""
os.register_at_fork(after_in_child=_forget_panels)


def _conversation(prompt: Prompt) -> str:
    """The messages as text, with their roles where there is more than one."""
    texts = [(str(message.get("role", "")), _message_text(message.get("content"))) for message in prompt.messages]
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in texts)


def _message_text(content: object) -> str:
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, list | tuple) else ()
    return "\n".join(str(piece["text"]) for piece in pieces if isinstance(piece, dict) and piece.get("type") == "text")
