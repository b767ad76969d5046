"""vLLM: engines, their workers and what is ours inside them; the one place that imports it."""
