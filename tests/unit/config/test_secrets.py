"""Keys are known by name and by what they hold, and no error repeats one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import apply_override, checked, dump_config
from pangu_rl.config.secrets import first_secret, is_secret, masked, masked_text
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import ConfigError

SFT = {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"run_dir": "r", "steps": 1}}

VALUES = [
    "http://user:hunter2@proxy:3128",
    "https://__token__:abcdef@pypi.example.org/simple",
    "sk-abcdefghijklmnop1234",
    "hf_abcdefghijklmnopqrst",
    "ghp_abcdefghijklmnopqrst",
    "Bearer abcdefghijkl",
    "AKIAABCDEFGHIJKLMNOP",
    "ASIAABCDEFGHIJKLMNOP",
    "AIzaSyabcdefghijklmnopqrstuvwxyz012345",
    "github_pat_abcdefghijklmnopqrst",
    "gsk_abcdefghijklmnopqrst",
    "nvapi-abcdefghijklmnopqrst",
    "-----BEGIN RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("value", VALUES)
def test_keys_by_what_they_hold(value: str) -> None:
    assert is_secret("HTTPS_PROXY", value)
    profile = {"description": "d", "accelerator": "cpu", "nodes": [{"name": "n", "cpus": 1, "memory_gib": 1}]}
    with pytest.raises(ValidationError) as caught:
        ClusterProfile.model_validate({**profile, "env": {"ANY": value}})
    assert "ANY looks like a secret" in caught.value.errors()[0]["msg"]
    assert value not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "api_key",
        "apikey",
        "HF_TOKEN",
        "hf-token",
        "password",
        "AWS_SECRET_ACCESS_KEY",
        "auth",
        "apiToken",
        "secretKey",
        "DB_PWD",
        "PGPASSWORD",
        "passphrase",
        "SSH_PRIVATE_KEY",
        "SESSION_TOKEN",
        "authToken",
        "Authorization",
        "cookie",
        "SENTRY_DSN",
        "clientSecret",
        "AZURE_ACCOUNT_KEY",
    ],
)
def test_keys_by_name(name: str) -> None:
    assert is_secret(name, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKENS", "512"),
        ("max_tokens", 512),
        ("api_key_env", "MY_KEY"),
        ("keyword", "x"),
        ("monkey", "x"),
        ("bypass", "x"),
        ("author", "x"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("HF_HOME", "/data/hf"),
        ("key", 3),
        ("PYTHONPATH", "/a:/b"),
    ],
)
def test_what_is_no_key(name: str, value: object) -> None:
    assert not is_secret(name, value)


def test_arguments_of_rewards_hold_none_at_any_depth() -> None:
    assert first_secret({"a": [{"b": {"api_key": "x"}}]}) == "a.0.b.api_key"
    with pytest.raises(ValidationError, match=r"headers\.Authorization looks like a secret") as caught:
        RewardFunctionConfig(name="f", args={"headers": {"Authorization": "Bearer abcdefghijkl"}})
    assert "abcdefghijkl" not in caught.value.errors()[0]["msg"]
    assert RewardFunctionConfig(name="f", args={"api_key_env": "MY_KEY", "limit": 3})


def test_what_is_shown_is_masked_at_any_depth() -> None:
    tree = {"path": "m", "args": [{"api_key": "x", "url": "http://u:p@host"}], "api_key_env": "KEY", "steps": 3}
    assert masked(tree) == {"path": "m", "args": [{"api_key": "***", "url": "***"}], "api_key_env": "KEY", "steps": 3}


@pytest.mark.parametrize("value", VALUES)
def test_no_dump_and_no_complaint_repeats_a_key(value: str) -> None:
    config = checked(SftConfig, SFT | {"model": {"path": f"m {value}"}}, "sft.yaml")
    assert value not in dump_config(config)
    for wrong in ({"steps": value}, {"api_key": value}):
        with pytest.raises(ConfigError) as caught:
            checked(SftConfig, SFT | {"trainer": SFT["trainer"] | wrong}, "sft.yaml")
        assert value not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        apply_override({}, f"a.b {value} [")
    assert value not in str(caught.value)
    assert value not in masked_text(f"a.b={value}")


def test_an_override_of_a_key_is_masked_by_its_name() -> None:
    assert masked_text("rewards.api_key=abc") == "rewards.api_key=***"
    assert masked_text("trainer.steps=3") == "trainer.steps=3"
