"""Files of other systems through the real command: what is trained is what they say, turn by turn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pangu_rl.config.load import load_config
from pangu_rl.config.stages import DpoConfig, SftConfig
from pangu_rl.loops.inputs.conversations import read_sft_inputs
from pangu_rl.loops.inputs.pairs import read_dpo_inputs
from tests.e2e import runs

END = "<|im_end|>"
TEMPLATE = """\
{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool.function.name }}: {{ tool.function.description }}{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }})\
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
TOOLS = [{"name": "add", "description": "adds", "parameters": {"type": "object"}}]


def write_config(folder: Path, model: Path, data: dict, **trainer: int) -> Path:
    (folder / "template.jinja").write_text(TEMPLATE)
    shared = {"max_tokens": 128, "shuffle": False}
    path = runs.write_config(folder, model, data=data)
    tree = {
        "model": {"path": str(model), "chat_template": str(folder / "template.jinja")},
        "data": data | shared,
        "learner": {"optimizer": {"lr": 1e-3}, "pack_tokens": 256},
        "trainer": {"run_dir": str(folder / "run"), "steps": 2, **trainer},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path.write_text(json.dumps(tree))
    return path


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def test_sft_on_sharegpt_with_tools_and_weights(tiny_model: Path, tmp_path: Path) -> None:
    """Calls and answers are trained; questions, results and the turn of weight 0 are read."""
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"{i} + 1?"},
                {"from": "gpt", "value": "I do not know.", "weight": 0},
                {"from": "human", "value": "Use the tool."},
                {"from": "function_call", "value": json.dumps({"name": "add", "arguments": {"a": i, "b": 1}})},
                {"from": "observation", "value": f"result {i + 1}"},
                {"from": "gpt", "value": f"It is {i + 1}."},
            ],
            "tools": json.dumps(TOOLS),
        }
        for i in range(4)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = write_config(tmp_path, tiny_model, {"train": str(tmp_path / "rows.json")}, sequences_per_step=2)
    done = runs.run("sft", config)
    assert done.returncode == 0, done.stderr
    assert "rows.json: its rows are read as sharegpt" in (tmp_path / "run" / "run.log").read_text()
    inputs = read_sft_inputs(load_config(SftConfig, config))
    encoder = inputs.loader.encoder
    encoded = [encoder.conversation(row.messages, (), row.tools) for row in inputs.train.records]
    for i, row in enumerate(encoded):
        trained = [token for token, kept in zip(row.token_ids, row.trained, strict=True) if kept]
        written = encoder.template.tokenizer.decode(trained)
        assert written == f'add({{"a": {i}, "b": 1}}){END}It is {i + 1}.{END}'
        assert "add: adds" in encoder.template.tokenizer.decode(row.token_ids)
    counts = [sum(row.trained) for row in encoded]
    assert [step["train/tokens"] for step in metrics(tmp_path)] == [sum(counts[:2]), sum(counts[2:])]


def test_dpo_on_trls_pairs_of_messages(tiny_model: Path, tmp_path: Path) -> None:
    """The turns that both answers begin with are the prompt; of each answer all is trained, and its end."""
    question = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}]
    again = {"role": "user", "content": "Sure?"}
    rows = [
        {
            "chosen": [*question, again, {"role": "assistant", "content": f"No, it is 4. {i}"}],
            "rejected": [*question, again, {"role": "assistant", "content": "Yes."}],
        }
        for i in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = write_config(tmp_path, tiny_model, {"train": str(tmp_path / "pairs.jsonl")}, pairs_per_step=2)
    done = runs.run("dpo", config)
    assert done.returncode == 0, done.stderr
    assert "pairs.jsonl: its rows are read as trl" in (tmp_path / "run" / "run.log").read_text()
    inputs = read_dpo_inputs(load_config(DpoConfig, config))
    decode = inputs.loader.encoder.template.tokenizer.decode
    for i, pair in enumerate(inputs.train):
        row = inputs.loader.encoder.pair(pair)
        assert (decode(row.chosen), decode(row.rejected)) == (f"No, it is 4. {i}{END}", f"Yes.{END}")
        assert decode(row.prompt.token_ids).endswith(f"Sure?{END}\n<|im_start|>assistant\n")
        assert not any(row.prompt.trained)
    assert np.isfinite([step["train/loss"] for step in metrics(tmp_path)]).all()
