"""Does a transformers family learn to see? A miniature of it through `quickstart-vl`: SFT, GRPO, held-out accuracy.

`python -m benchmarks.learning.family_learns qwen2_5_vl --out runs/family_learns`: the first layers of SmolLM2 behind an
untrained tower of the family, taught colours by SFT and then by GRPO on easy-vqa, then asked about held-out pictures
and about blank ones, whose accuracy is guessing. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, GenerationConfig

from data_curation.sources.tiny_pangu_vl import LAYERS, SEED, token_ids, vision_tokenizer
from pangu_rl.config.paths import resolve_path
from pangu_rl.records import GROUNDING_TAGS
from tests.builders import SMOLLM2
from tests.family_builders import save_processor

TOWER = {"depth": 4, "num_heads": 4, "hidden_size": 256, "intermediate_size": 1024, "out_hidden_size": 576}
KINDS = {
    "qwen2_5_vl": ({"mrope_section": [8, 12, 12]}, TOWER | {"fullatt_block_indexes": [1, 3]}),
    "qwen3_vl": (
        {"mrope_section": [12, 10, 10], "mrope_interleaved": True},
        TOWER | {"num_position_embeddings": 256, "deepstack_visual_indexes": [0, 2]},
    ),
}


def build(kind: str, folder: Path) -> Path:
    """The miniature as a model folder, in bfloat16."""
    source = resolve_path(SMOLLM2)
    tokenizer = vision_tokenizer(source)
    tokenizer.add_tokens(["<img>", "</img>"], special_tokens=True)
    text = AutoModel.from_pretrained(source, dtype=torch.float32, num_hidden_layers=LAYERS)
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = text.embed_tokens.weight.data
    rows[-len(GROUNDING_TAGS) - 6 :] = rows[: -len(GROUNDING_TAGS) - 6].mean(0)
    rope, vision = KINDS[kind]
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    shape = {name: getattr(text.config, name) for name in (*sizes, "rms_norm_eps")}
    special = {name: getattr(text.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    settings = (
        shape
        | special
        | {
            "num_hidden_layers": LAYERS,
            "head_dim": 64,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": text.config.rope_parameters["rope_theta"]} | rope,
        }
    )
    torch.manual_seed(SEED)
    config = AutoConfig.for_model(
        kind, text_config=settings, vision_config=vision, tie_word_embeddings=True, **token_ids(tokenizer)
    )
    model = AutoModelForImageTextToText.from_config(config)
    _, unknown = model.model.language_model.load_state_dict(text.state_dict(), strict=False)
    assert not unknown, unknown
    for layer in model.model.language_model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            if projection.bias is not None:
                projection.bias.data.zero_()
    model.generation_config = GenerationConfig(**special)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_processor(folder, kind, least=16, most=256)
    return folder


def run(stage: str, config: str, *overrides: str) -> None:
    subprocess.run([sys.executable, "-m", "pangu_rl", stage, "--config", config, *overrides], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    out = args.out.resolve() / args.kind
    model = out / "model"
    if not (model / "config.json").exists():
        build(args.kind, model)
    run("sft", "configs/quickstart/sft_vl.yaml", f"model.path={model}", f"trainer.run_dir={out / 'sft'}")
    start = sorted((out / "sft" / "checkpoints").glob("step_*/hf"))[-1]
    grpo = [f"model.path={start}", f"trainer.run_dir={out / 'grpo'}", "start=null"]
    run("grpo", "configs/quickstart/grpo_vl.yaml", *grpo)
    end = sorted((out / "grpo" / "checkpoints").glob("step_*/hf"))[-1]
    for name, folder in (("sft", start), ("grpo", end)):
        run("eval", "configs/eval/easy_vqa.yaml", f"model.path={folder}", f"trainer.run_dir={out / f'eval_{name}'}")
    rows = map(json.loads, (out / "grpo" / "metrics.jsonl").read_text().splitlines())
    steps = [row for row in rows if "reward/mean" in row]
    print("reward, first and last five steps:", *(_mean(part) for part in (steps[:5], steps[-5:])))


def _mean(steps: list[dict]) -> float:
    return round(sum(step["reward/mean"] for step in steps) / len(steps), 3)


if __name__ == "__main__":
    main()
