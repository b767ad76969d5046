"""Schemas of every stage, and their loading. Imports neither torch nor ray nor vllm nor deepspeed."""
