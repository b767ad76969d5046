"""A setting's name in TRL, verl, OpenRLHF, ms-swift or LLaMA-Factory -> **the key of the same meaning here**."""

from __future__ import annotations

from collections.abc import Iterable

_STEP = "trainer.sequences_per_step", "trainer.prompts_per_step", "trainer.pairs_per_step"
_ROWS = "trainer.sequences_per_step", "trainer.pairs_per_step"
_LENGTH = "data.max_tokens", "data.max_prompt_tokens", "rollout.max_new_tokens"
_WHOLE = "it counts the whole step, over all devices"
_EPOCHS = "epochs x rows / rows a step"

COUNTERPARTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("learning_rate", "actor_learning_rate"), ("learner.optimizer.lr",)),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), ("learner.optimizer.schedule",)),
    **dict.fromkeys(("max_grad_norm", "clip_grad", "gradient_clipping"), ("learner.optimizer.grad_clip",)),
    "warmup_ratio": ("learner.optimizer.warmup_steps",),
    **dict.fromkeys(("batch_size", "train_batch_size", "global_batch_size", "rollout_batch_size"), _STEP),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), _ROWS),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "total_epochs", "max_epochs"), ("trainer.steps",)),
    **dict.fromkeys(("max_steps", "num_steps", "total_training_steps"), ("trainer.steps",)),
    **dict.fromkeys(("save_steps", "save_freq"), ("trainer.checkpoint_every",)),
    "save_total_limit": ("trainer.keep_checkpoints",),
    **dict.fromkeys(("eval_steps", "test_freq"), ("trainer.eval_every",)),
    **dict.fromkeys(("output_dir", "save_path", "default_local_dir"), ("trainer.run_dir",)),
    **dict.fromkeys(("model_name_or_path", "model_name", "pretrain"), ("model.path",)),
    "template": ("model.chat_template",),
    **dict.fromkeys(("torch_dtype", "bf16", "fp16"), ("model.dtype",)),
    **dict.fromkeys(("dataset", "dataset_name", "train_file", "train_files", "prompt_data"), ("data.train",)),
    "dataset_dir": ("data.train",),
    **dict.fromkeys(("eval_dataset", "val_file", "val_files"), ("data.heldout",)),
    **dict.fromkeys(("image_folder", "image_dir", "media_dir"), ("data.media_root",)),
    **dict.fromkeys(("max_length", "max_len", "max_seq_length", "max_seq_len", "cutoff_len"), _LENGTH),
    **dict.fromkeys(("max_prompt_length", "prompt_max_len"), ("data.max_prompt_tokens",)),
    "mask_history": ("data.turns",),
    **dict.fromkeys(("num_generations", "n_samples_per_prompt", "num_rollouts", "n"), ("rollout.completions",)),
    **dict.fromkeys(("max_completion_length", "max_response_length"), ("rollout.max_new_tokens",)),
    "generate_max_len": ("rollout.max_new_tokens",),
    "max_model_len": ("rollout.max_model_tokens",),
    **dict.fromkeys(("gpu_memory_utilization", "vllm_gpu_memory_utilization"), ("rollout.memory_share",)),
    **dict.fromkeys(("tensor_parallel_size", "tensor_model_parallel_size"), ("rollout.devices_per_actor",)),
    "vllm_tensor_parallel_size": ("rollout.devices_per_actor",),
    "vllm_num_engines": ("rollout.actors",),
    **dict.fromkeys(("vllm_mode", "colocate_all_models"), ("rollout.placement",)),
    **dict.fromkeys(("nnodes", "n_gpus_per_node"), ("learner.ranks", "rollout.actors")),
    **dict.fromkeys(("reward_funcs", "reward_function", "reward_weights", "external_plugins"), ("rewards.functions",)),
    **dict.fromkeys(("custom_reward_function", "remote_rm_url"), ("rewards.functions",)),
    **dict.fromkeys(("epsilon", "clip_ratio", "clip_ratio_low"), ("algorithm.clip_low",)),
    **dict.fromkeys(("epsilon_high", "clip_ratio_high"), ("algorithm.clip_high",)),
    **dict.fromkeys(("beta", "init_kl_coef", "kl_coef", "kl_loss_coef"), ("algorithm.kl_weight",)),
    "pref_beta": ("algorithm.beta",),
    "pref_loss": ("algorithm.weights",),
    "importance_sampling_level": ("algorithm.loss",),
    "filter_groups": ("algorithm.dynamic_sampling",),
    "max_num_gen_batches": ("algorithm.dynamic_sampling.max_rounds",),
    **dict.fromkeys(("num_iterations", "ppo_mini_batch_size"), ("algorithm.mini_batches",)),
    "scale_rewards": ("algorithm.advantage_scale",),
    "loss_type": ("algorithm.aggregation",),
    **dict.fromkeys(("packing", "ppo_micro_batch_size_per_gpu"), ("learner.pack_tokens",)),
    **dict.fromkeys(("peft_config", "finetuning_type", "train_type"), ("learner.lora",)),
    **dict.fromkeys(("lora_rank", "lora_r"), ("learner.lora.rank",)),
    "lora_alpha": ("learner.lora.alpha",),
    **dict.fromkeys(("lora_target", "target_modules", "lora_target_modules"), ("learner.lora.targets",)),
    **dict.fromkeys(("ulysses_sequence_parallel_size", "sequence_parallel_size"), ("learner.sequence_parallel",)),
    **dict.fromkeys(("freeze_vit", "freeze_vision_tower"), ("learner.trainable",)),
    **dict.fromkeys(("report_to", "logger"), ("monitoring",)),
}
"""Of several keys those that a stage has: mostly one."""

REMARKS: dict[str, str] = {
    **dict.fromkeys((name for name, keys in COUNTERPARTS.items() if keys in (_STEP, _ROWS)), _WHOLE),
    **dict.fromkeys((name for name in COUNTERPARTS if "epochs" in name), _EPOCHS),
    "warmup_ratio": "a number of steps",
    "cutoff_len": "a longer row is refused, not cut",
    "packing": "it is always done, and sequences in a pack never see each other",
    "max_num_gen_batches": "rounds behind the first",
    "num_iterations": "it splits a step; answers are not learned from twice",
    "remote_rm_url": "one that asks a service: examples/rewards/http_judge.py",
    "importance_sampling_level": "gspo is that of sequences",
    "pref_loss": "[1, 0, 0] is plain DPO",
    "report_to": "wandb_project and others; TensorBoard is on",
    **dict.fromkeys(("nnodes", "n_gpus_per_node"), "nodes are Ray's"),
}
"""Where it is counted otherwise here: how."""


def counterpart(name: str, known: Iterable[str]) -> str | None:
    """Those of the `known` keys that another trainer calls `name`, with what is to be known of them; None of none.

    `known` are dotted; dashes and the case of `name` are of no account.
    """
    there, ours = name.lower().replace("-", "_"), set(known)
    found = " or ".join(key for key in COUNTERPARTS.get(there, ()) if key in ours)
    return f"{found} ({REMARKS[there]})" if found and there in REMARKS else found or None
