"""The panel as a reward function: `llm_score` in a rubric. A value from 1 to 5, so give it a small weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pangu_rl.errors import ConfigError
from pangu_rl.records import Completion, Part, Prompt
from rewards.base import whole_answer
from rewards.rules.boxed_answer import answer_part
from rewards.scorers.own_thread import in_scorers_thread, running_engines
from rewards.scorers.records import ScoredItem

if TYPE_CHECKING:
    from rewards.scorers.panel import ScorerPanel


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
    return (await in_scorers_thread(config, _make_panel, lambda panel: panel.score(item))).part()


def item_of(prompt: Prompt, completion: Completion) -> ScoredItem:
    """What scorers see of a completion: no thinking (all of it, while it is still open), and nothing of its reward."""
    return ScoredItem(
        uid=completion.uid,
        question=conversation(prompt),
        response=answer_part(whole_answer(prompt, completion)) or "",
        reference=prompt.answer,
        pictures=prompt.images,
    )


async def _make_panel(config: str) -> ScorerPanel:
    # Imported late: the endpoints' client is heavy, and whoever scores by rules never needs it.
    from pangu_rl.config.load import load_config
    from pangu_rl.config.sections.scorers import ScorersConfig
    from rewards.scorers.panel import ScorerPanel

    scorers = load_config(ScorersConfig, config)
    return ScorerPanel(scorers, await running_engines(scorers.scorers))


def conversation(prompt: Prompt) -> str:
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
