"""What a run reads, checked before anything is started or written: prompts, golds, model folder, reward functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.data.conversations import Conversation, load_conversations
from pangu_rl.data.prompts import load_prompts
from pangu_rl.errors import ConfigError
from pangu_rl.records import Prompt
from rewards.audit import gold_problem
from rewards.rubric import Rubric


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoInputs:
    """The prompts of a run."""

    template: ChatTemplate
    train: list[Prompt]
    heldout: list[Prompt]
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftInputs:
    """The conversations of a run."""

    template: ChatTemplate
    train: list[Conversation]
    skipped: list[str]


def read_grpo_inputs(config: GrpoConfig) -> GrpoInputs:
    """Read and audit the prompts; every gold must be graded correct by the first reward function.

    Raises:
        UserError: a file, a row, a model folder or a reward function that cannot be used.
    """
    _check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    template = ChatTemplate(resolve_path(config.model.path), config.model.chat_template)
    grade = Rubric.from_config(config.rewards).functions[0].call
    limit = config.data.max_prompt_tokens

    def problem(prompt: Prompt) -> str | None:
        length = len(template.encode_prompt(prompt.messages))
        if length > limit:
            return f"the prompt has {length} tokens, data.max_prompt_tokens is {limit}"
        return gold_problem(prompt, grade)

    files = [resolve_path(path) for path in (config.data.train, config.data.heldout) if path]
    train, *rest = [load_prompts(file, on_bad_row=config.data.on_bad_row, check_gold=problem) for file in files]
    return GrpoInputs(
        template=template,
        train=train.prompts,
        heldout=rest[0].prompts[: config.data.heldout_limit] if rest else [],
        skipped=[line for loaded in (train, *rest) for line in loaded.skipped],
    )


def read_sft_inputs(config: SftConfig) -> SftInputs:
    """Read the conversations.

    Raises:
        UserError: a file, a row or a model folder that cannot be used.
    """
    limit = config.data.max_tokens
    _check_length(resolve_path(config.model.path), limit, "data.max_tokens")
    template = ChatTemplate(resolve_path(config.model.path), config.model.chat_template)

    def problem(conversation: Conversation) -> str | None:
        length = len(template.encode_conversation(conversation.messages)[0])
        return f"the conversation has {length} tokens, data.max_tokens is {limit}" if length > limit else None

    loaded = load_conversations(resolve_path(config.data.train), on_bad_row=config.data.on_bad_row, check=problem)
    return SftInputs(template=template, train=loaded.conversations, skipped=loaded.skipped)


def _check_length(model: Path, tokens: int, key: str) -> None:
    """Refuse sequences longer than the positions that the model was made for.

    Raises:
        DataError: no model folder. ConfigError: `tokens` exceeds `max_position_embeddings`.
    """
    positions = model_config(model).get("max_position_embeddings")
    if positions is not None and tokens > positions:
        raise ConfigError(f"{key} is {tokens}, the model in {model} has {positions} positions: lower {key} to that")
