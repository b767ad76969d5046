"""A name of another trainer leads to the key of its meaning, and the table says what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pangu_rl.config.keys import keys_of
from pangu_rl.config.load import load_config
from pangu_rl.config.names.other_trainers import COUNTERPARTS
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT

SCHEMAS = {"grpo": GrpoConfig, "sft": SftConfig, "dpo": DpoConfig}
SPAN = re.compile(r"`([^`]+)`")


@pytest.mark.parametrize(
    ("stage", "override", "hint"),
    [
        ("sft", "learning_rate=1e-5", "unknown key learning_rate: did you mean learner.optimizer.lr?"),
        ("sft", "trainer.learning-rate=1e-5", "unknown key trainer.learning-rate: did you mean learner.optimizer.lr?"),
        (
            "sft",
            "batch_size=8",
            "trainer.sequences_per_step (it counts the whole step, over all devices)?",
        ),
        ("grpo", "data.train_batch_size=8", "did you mean trainer.prompts_per_step (it"),
        ("dpo", "per_device_train_batch_size=8", "did you mean trainer.pairs_per_step (it"),
        ("sft", "num_train_epochs=3", "did you mean trainer.steps (epochs x rows / rows a step)?"),
        ("dpo", "max_length=512", "did you mean data.max_tokens?"),
        ("grpo", "max_length=512", "did you mean data.max_prompt_tokens or rollout.max_new_tokens?"),
        ("grpo", "gradient_accumulation_steps=2", "unknown key gradient_accumulation_steps: known keys: "),
        ("grpo", "beta=0.1", "did you mean algorithm.kl_weight?"),
        ("dpo", "beta=0.1", "did you mean algorithm.beta?"),
        ("grpo", "rollout.n=8", "unknown key rollout.n: did you mean rollout.completions?"),
        (
            "grpo",
            "actor_rollout_ref={rollout: {n: 8}, actor: {optim: {lr: 1}}}",
            "unknown key actor_rollout_ref: did you mean rollout.completions for actor_rollout_ref.rollout.n, "
            "learner.optimizer.lr for actor_rollout_ref.actor.optim.lr?",
        ),
        ("grpo", "actor_rollout_ref.model.path=m", "model.path for actor_rollout_ref.model.path?"),
        ("grpo", "importance_sampling_level=sequence", "did you mean algorithm.loss (gspo is that of sequences)?"),
        ("sft", "packing=true", "did you mean learner.pack_tokens (it is always done"),
        ("sft", "lerner={optimizer: {lr: 1}}", "unknown key lerner: did you mean learner?"),
    ],
)
def test_the_name_is_led_to_ours(tmp_path: Path, stage: str, override: str, hint: str) -> None:
    (tmp_path / "a.yaml").write_text("{}")
    with pytest.raises(ConfigError) as refused:
        load_config(SCHEMAS[stage], tmp_path / "a.yaml", [override])
    assert hint in str(refused.value)


def test_every_key_is_there_and_no_name_is_one_of_ours_in_every_stage() -> None:
    known = {stage: {key.name for key in keys_of(schema)} for stage, schema in SCHEMAS.items()}
    assert {key for keys in COUNTERPARTS.values() for key in keys} <= set().union(*known.values())
    ours = [{key.rpartition(".")[2] for key in keys} for keys in known.values()]
    assert not COUNTERPARTS.keys() & set.intersection(*ours)


def test_the_table_is_that_of_the_documentation() -> None:
    """Of rows that name keys of ours and nothing else, as many as of theirs; `beta` is another one by the loss."""
    compared = 0
    for row in re.findall(r"^\| (.+) \| ([`\w., ]+) \|$", (ROOT / "docs/coming_from.md").read_text(), re.MULTILINE):
        theirs, ours = (SPAN.findall(cell) for cell in row)
        for name, key in zip(theirs, ours, strict=True) if len(theirs) == len(ours) else ():
            names = COUNTERPARTS.get(name.lstrip("-").rpartition(".")[2], ())
            assert not names or name == "beta" or any(known.endswith(key) for known in names), row
            compared += bool(names)
    assert compared >= 20


def test_every_name_of_the_documentation_is_answered() -> None:
    """But for commands, for what there is no setting of, and for the names that are settings here, too."""
    ours = {part for schema in SCHEMAS.values() for key in keys_of(schema) for part in key.name.split(".")}
    rows = re.findall(r"^\| (.+) \| .+ \|$", (ROOT / "docs/coming_from.md").read_text(), re.MULTILINE)
    spans = [span for row in rows for span in SPAN.findall(row.partition(" | ")[0])]
    names = {re.split("[:= ]", span.lstrip("-"))[0].rpartition(".")[2] for span in spans}
    unanswered = names - COUNTERPARTS.keys() - ours
    commands = {"SFTTrainer", "DPOTrainer", "GRPOTrainer", "swift", "rlhf_type", "stage"}
    assert unanswered == {*commands, "use_vllm", "adv_estimator"}
