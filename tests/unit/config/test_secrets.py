"""Keys are known by name and by what they hold, and no error repeats one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.keys import keys_of
from pangu_rl.config.load import apply_override, checked, config_digest, dump_config, load_config
from pangu_rl.config.pages.commented import commented
from pangu_rl.config.pipelines.node import NODE_SCHEMAS
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.config.secrets import first_secret, is_secret, masked, masked_text
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.config.sections.scorers import ScorersConfig
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
    "https://host/rows?token=abc",
    "https://host/rows?a=1&access_token=abc",
    "https://host/rows?api_key=abc",
    "https://account.blob.core.windows.net/rows?sv=1&sig=abc",
    "https://bucket.obs.example.com/rows?X-Amz-Signature=abc",
    "https://9f8e7d6c5b4a39281706f5e4d3c2b1a0@host/1",
    "sk_live_abcdefghijkl",
    "bearer abcdefghijkl1",
    "Basic dXNlcjpwYXNz",
    "basic dXNlcjpwYXNzd29yZA==",
    "Authorization: token abcdef",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc==",
    "Server=s;Password=abc",
    "run --api-key=abc",
    "https://hooks.slack.com/services/T0/B0/abc",
    "https://open.feishu.cn/open-apis/bot/v2/hook/abc",
    "https://oapi.dingtalk.com/robot/send?access_token=abc",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abc",
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
        "OBS_AK",
        "OBS_SK",
        "HUAWEICLOUD_SDK_SK",
        "MODELARTS_SK",
        "GITHUB_PAT",
        "api_keys",
        "APIKey",
        "X-API-Key",
        "jwt",
        "OPENAI_API_KEY_2",
        "password_of_db",
        "DB_PASS",
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
        ("answerKey", "answer"),
        ("key", "answer"),
        ("answer_key", "correct_option"),
        ("input_key", "question_with_choices_2"),
        ("sort_key", "internationalization"),
        ("eos_token", "</s>"),
        ("stop_tokens", "<|im_end|>"),
        ("think_token", "<think>"),
        ("image_token", "<|vision_start|><|image_pad|>"),
        ("image_token", 151655),
        ("sk", "slovak"),
        ("pass", "first"),
        ("run_key", "20261128T101500Z"),
        ("step_key", "checkpoint0000100"),
        ("PUBLIC_KEY", "AAAAB3NzaC1yc2EAAAADAQABAAABgQC7x1"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/gcp.json"),
        ("SSH_PRIVATE_KEY", "~/.ssh/id_ed25519"),
        ("PWD", "/home/me"),
        ("PIP_INDEX_URL", "https://pypi-mirror-internal-registry.example/simple"),
        ("path", "runs/sk-learn-baseline-2026"),
        ("NPM", "npm_config_cache_directory"),
        ("repository", "ssh://git@github.com/owner/name"),
        ("repository", "https://git@github.com/owner/name"),
        ("prompt", "Basic arithmetic: the bearer certificates, token by token; the password is in the picture"),
        ("prompt", "https://host/rows?split=train&key=answer"),
        ("template", "--api-key={key} --password=$PASSWORD"),
    ],
)
def test_what_is_no_key(name: str, value: object) -> None:
    assert not is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", "q7Zk29XbLm41TtYw"),
        ("token", "3f2a9c8b7d6e5f4a3b2c1d0e"),
        ("my_token", "550e8400-e29b-41d4-a716-446655440000"),
        ("sk", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"),
        ("AZURE_ACCOUNT_KEY", "/q7Zk29XbLm41TtYw8JhG5vN3/xQ=="),
        ("password", 123456),
    ],
)
def test_keys_by_both(name: str, value: object) -> None:
    assert is_secret(name, value)


def test_no_setting_of_ours_is_called_like_a_key() -> None:
    """A value under it would be shown as `***`."""
    schemas = (*NODE_SCHEMAS.values(), PipelineConfig, CurateConfig, ScorersConfig, ClusterProfile)
    names = {key.name.rpartition(".")[2].removesuffix("[]") for schema in schemas for key in keys_of(schema)}
    assert {"run_dir", "columns", "secrets"} <= names
    assert [name for name in sorted(names) if is_secret(name, "x")] == ["secrets"], "which are names of variables"


@pytest.mark.parametrize("columns", [{"answerKey": "answer"}, {"password": "answer"}, {"secret": "messages"}])
def test_columns_of_files_are_never_masked(columns: dict[str, str], tmp_path: Path) -> None:
    config = checked(SftConfig, SFT | {"data": {"train": "t", "columns": columns}}, "sft.yaml")
    for text in (dump_config(config), commented(config)):
        (tmp_path / "again.yaml").write_text(text)
        assert load_config(SftConfig, tmp_path / "again.yaml") == config


def test_two_keys_are_two_configurations() -> None:
    """They are shown alike, and what was made with one is not what the other makes."""
    one, other = (
        checked(SftConfig, SFT | {"model": {"path": f"https://user:{key}@host/m"}}, "sft.yaml") for key in ("a", "b")
    )
    assert dump_config(one) == dump_config(other) and config_digest(one) != config_digest(other)


@pytest.mark.parametrize("args", [{"answer_key": "answer"}, {"eos_token": "</s>"}, {"think_token": "<think>"}])
def test_arguments_of_rewards_may_be_called_key_and_token(args: dict[str, str]) -> None:
    assert RewardFunctionConfig(name="f", args=args).args == args


def test_arguments_of_rewards_hold_none_at_any_depth() -> None:
    assert first_secret({"api_keys": ["x"]}) == "api_keys.0"
    assert first_secret({"env": [{"name": "HF_TOKEN", "value": "x"}]}) == "env.0.value"
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
        apply_override({}, f"a..b={value} [")
    assert value not in str(caught.value)
    assert value not in masked_text(f"a.b is {value}")


@pytest.mark.parametrize(
    "override",
    [
        "rewards.functions=[{name: a, args: {api_key: SEKRET}}",
        "model.path=!!float SEKRET",
        "{api_key: SEKRET}",
        "api_key SEKRET",
        "a..b=SEKRET",
        "model.path.deep=SEKRET",
    ],
)
def test_no_complaint_repeats_the_value_of_an_override(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_override({"model": {"path": "m"}}, override)
    assert "SEKRET" not in str(caught.value)
