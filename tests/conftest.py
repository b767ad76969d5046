"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pangu_rl.accelerators.collective import free_port
from tests.builders import build_tiny_model, build_tiny_vl_model

# As a private Ray of ours has it: at Ray's own 15, a Ray of the tests waits for whatever else runs on the machine.
os.environ.setdefault("RAY_worker_niceness", "0")

# A busy machine makes an example slow, not wrong; and what one run finds, every run finds.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer Llama with SmolLM2's tokenizer, bf16."""
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_vl_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer PanguVL with SmolLM2's tokenizer and the four vision tokens, bf16."""
    return build_tiny_vl_model(tmp_path_factory.mktemp("vl_model") / "tiny")


@pytest.fixture(scope="module")
def rendezvous() -> Iterator[None]:
    """Where a learner of one rank in this process meets itself. Its group stays: DeepSpeed keeps handles to it."""
    place = {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # nobody else serves the store
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def ray_authentication_as_imported() -> Iterator[None]:
    """Undo what `cli.main` decides for its process: Ray has read its mode here already, its children read it anew."""
    before = os.environ.get("RAY_AUTH_MODE")
    yield
    os.environ.pop("RAY_AUTH_MODE", None)
    if before is not None:
        os.environ["RAY_AUTH_MODE"] = before
