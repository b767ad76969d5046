"""What vLLM raises for a request that it does not admit, in all its versions."""

from __future__ import annotations

from vllm import exceptions

REFUSED = (ValueError, getattr(exceptions, "VLLMClientError", ValueError))
"""Its own class from some 0.2x on, a ValueError before."""
