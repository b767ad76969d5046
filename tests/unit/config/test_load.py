"""Complaints about a configuration name the key, both values and the way out."""

from __future__ import annotations

import math
import textwrap

import pytest

from pangu_rl.config.load import apply_override, dump_config, load_config
from pangu_rl.config.pages.commented import commented
from pangu_rl.config.paths import cache_root, resolve_path
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.config.yaml_text import plain
from pangu_rl.errors import ConfigError

GRPO = """
model: {path: models/m}
data: {train: train.jsonl, max_prompt_tokens: 100}
rollout: {max_new_tokens: 50, max_model_tokens: 160}
trainer: {run_dir: runs/x, steps: 3, prompts_per_step: 8}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "grpo.yaml"
    file.write_text(GRPO)
    return file


def complaint(path, *overrides, schema=GrpoConfig):
    with pytest.raises(ConfigError) as caught:
        load_config(schema, path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["learner.pack_tokens=2048", "learner.micro_batch_tokens=2047"],
            "micro_batch_tokens 2047 holds no pack of pack_tokens 2048",
        ),
        (["learner.reduce_bucket=5"], "reduce_bucket is 5 and zero_stage is 1, which does not use it"),
        (["learner.overlap_comm=true"], "set it to null, or zero_stage to 2 or 3"),
        (["learner.overlap_comm=false"], "overlap_comm is False and zero_stage is 1, which does not use it"),
        (["learner.zero_stage=2", "learner.prefetch_bucket=0"], "prefetch_bucket is 0 and zero_stage is 2"),
        (["learner.zero_stage=2", "learner.prefetch_bucket=5"], "prefetch_bucket is 5 and zero_stage is 2"),
    ],
)
def test_communication_that_a_stage_does_not_have_is_refused(path, overrides, message):
    assert message in complaint(path, *overrides)


def test_defaults_are_the_recipe(path):
    config = load_config(GrpoConfig, path)
    assert (config.algorithm.clip_low, config.algorithm.clip_high) == (0.2, 0.28)
    assert (config.rollout.completions, config.learner.optimizer.lr) == (8, 1e-6)
    assert config.trainer.max_staleness == 0


def test_overrides_are_yaml_scalars_and_win(path):
    config = load_config(
        GrpoConfig,
        path,
        ["learner.optimizer.lr=2e-5", "trainer.steps=7", "rollout.eager=false", "data.heldout=null", "model.path='1'"],
    )
    assert (config.learner.optimizer.lr, config.trainer.steps, config.rollout.eager) == (2e-5, 7, False)
    assert (config.data.heldout, config.model.path) == (None, "1")


def test_round_trip(path, tmp_path):
    config = load_config(GrpoConfig, path, ["rewards.functions=[{name: a.py:f, args: {k: [1, 2]}}]"])
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(GrpoConfig, tmp_path / "again.yaml") == config


def test_an_unknown_key_meets_the_nearest_right_one(path):
    assert "unknown key rollout.temprature: did you mean temperature?" in complaint(path, "rollout.temprature=1")
    assert "unknown key learner.optimizer.lrr: did you mean lr?" in complaint(path, "learner.optimizer.lrr=1")
    assert "unknown key xyzzy: known keys: algorithm, cluster" in complaint(path, "xyzzy=1")


def test_what_is_set_behind_the_command_is_not_looked_for_in_the_file(path):
    assert complaint(path, "trainer.steps=[2, 3]").endswith("valid integer (set behind the command)")
    path.write_text(GRPO + "\nxyzzy: 1\n")
    assert "behind the command" not in complaint(path, "trainer.steps=3")


def test_every_complaint_is_made_at_once(path):
    text = complaint(path, "rollout.temprature=1", "trainer.steps=0")
    assert "rollout.temprature" in text and "trainer.steps is 0" in text
    assert str(path) in text


def test_a_missing_key_says_where_it_goes(path):
    path.write_text(GRPO.replace("run_dir: runs/x, ", ""))
    assert "missing key trainer.run_dir: add it to the file or as an override trainer.run_dir=VALUE" in complaint(path)


def test_a_bad_value_is_shown(path):
    assert "rollout.completions is 'many'" in complaint(path, "rollout.completions=many")
    assert "learner.zero_stage is 4" in complaint(path, "learner.zero_stage=4")
    assert "trainer.steps is -1" in complaint(path, "trainer.steps=-1")


@pytest.mark.parametrize(
    ("override", "complaints"),
    [
        (
            "rollout.max_new_tokens=100",
            ["max_prompt_tokens 100 + rollout.max_new_tokens 100 = 200", "max_model_tokens 160", "to 200"],
        ),
        ("rollout.completions=1", ["rollout.completions is 1", "set 2 or more"]),
        ("algorithm.mini_batches=3", ["prompts_per_step 8 is not a multiple of", "mini_batches 3", "to 6 or 9"]),
        ("trainer.max_staleness=1", ["max_staleness is 1", "correction is null", "set algorithm.correction.high"]),
        (
            "algorithm={loss: gspo, clip_high: 0.28}",
            ["clip_high is 0.28 and loss is gspo", "remove clip_high", "0.0004", "loss to grpo"],
        ),
        ("algorithm={loss: gspo, aggregation: token}", ["aggregation is token and loss is gspo", "to sequence"]),
        (
            "algorithm={loss: gspo, correction: {high: 2.0}}",
            ["correction.level is token and loss is gspo", "sequence or geometric"],
        ),
        ("algorithm={loss: cispo, clip_low: 0.2}", ["clip_low is 0.2 and loss is cispo", "set clip_low to null"]),
        ("algorithm.clip_low=null", ["clip_low is null and loss is grpo", "to a number"]),
        ("algorithm.correction={level: token}", ["missing key algorithm.correction.high"]),
        ("algorithm.correction.high=0.5", ["algorithm.correction.high is 0.5", "1"]),
        ("algorithm.correction={high: 2.0, low: 1.5}", ["low is 1.5 and high is 2", "set low to 1 or less"]),
        (
            "algorithm.dynamic_sampling={enabled: false, judge: accuracy}",
            ["enabled is false and judge is accuracy", "enabled to true", "judge to reward"],
        ),
        (
            "rewards.functions=[{name: boxed_accuracy}, {name: soft_overlong, args: {limit: 100, buffer: 8}}]",
            ["soft_overlong has limit 100", "max_new_tokens is 50", "make them the same"],
        ),
        ("trainer.max_staleness=9", ["trainer.max_staleness", "less than or equal to 8", "9"]),
        ("rewards.functions=[]", ["functions is empty"]),
        ("algorithm.loss={grpo: 1}", ["algorithm.loss is {'grpo': 1}"]),
        ("algorithm=[grpo]", ["algorithm is ['grpo']: is to be a section"]),
        ("rewards.functions=[{name: a}, {name: a}]", ["listed twice"]),
    ],
)
def test_rules_across_sections_give_the_way_out(path, override, complaints):
    text = complaint(path, override)
    assert all(part in text for part in complaints), text


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("trainer.steps", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("trainer..steps=3", "write it as section.key=value"),
        ("model.path.deep=3", "path is a value, not a section"),
        ("trainer.steps=[1", "the value is not YAML"),
        ("trainer.steps=" + "9" * 5000, "the value is not YAML"),
        ("trainer.steps=!!float x", "the value is not YAML"),
    ],
)
def test_a_malformed_override_is_quoted(path, override, part):
    text = complaint(path, override)
    assert part in text and override.split("=")[0] in text


def test_masking_cut_rows_and_punishing_them_do_not_go_together(path):
    functions = "rewards.functions=[{name: boxed_accuracy}, {name: soft_overlong, args: {limit: 50, buffer: 8}}]"
    load_config(GrpoConfig, path, [functions])
    text = complaint(path, functions, "algorithm.overlong=mask")
    assert "overlong is mask" in text and "soft_overlong" in text and "set algorithm.overlong to train" in text


def test_a_reference_needs_whole_models(path):
    load_config(GrpoConfig, path, ["algorithm.kl_weight=0.01", "learner.zero_stage=2"])
    text = complaint(path, "algorithm.kl_weight=0.01", "learner.zero_stage=3")
    assert "kl_weight is 0.01 and learner.zero_stage is 3" in text
    assert "set learner.zero_stage to 2, or algorithm.kl_weight to 0" in text
    free = ["algorithm.kl_weight=0.01", "learner.zero_stage=3", "learner.lora.rank=8"]
    adapted = load_config(GrpoConfig, path, free)
    assert adapted.learner.lora.rank == 8, "the reference is the model without adapters, of any stage"


def test_engines_take_what_vllm_takes(path):
    apart = "learner.lora.in_engines=apart"
    assert load_config(GrpoConfig, path, [apart, "learner.lora.rank=512"]).learner.lora.in_engines == "apart"
    assert "rank is 513 and in_engines is apart: vLLM takes ranks up to 512" in complaint(
        path, apart, "learner.lora.rank=513"
    )
    asleep = ("rollout.placement=shared", "rollout.sleep_level=2")
    assert "engines would lose weights that no sync sends" in complaint(path, apart, *asleep)
    load_config(GrpoConfig, path, ["learner.lora.rank=513", *asleep])


@pytest.mark.parametrize(
    ("loss", "clip_low", "clip_high", "aggregation"),
    [("grpo", 0.2, 0.28, "token"), ("gspo", 3e-4, 4e-4, "sequence"), ("cispo", None, 4.0, "token")],
)
def test_defaults_are_those_of_the_loss(path, tmp_path, loss, clip_low, clip_high, aggregation):
    config = load_config(GrpoConfig, path, [f"algorithm.loss={loss}"])
    found = config.algorithm
    assert (found.clip_low, found.clip_high, found.aggregation) == (clip_low, clip_high, aggregation)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(GrpoConfig, tmp_path / "again.yaml") == config
    given = load_config(GrpoConfig, path, [f"algorithm.loss={loss}", "algorithm.clip_high=0.05"]).algorithm
    assert given.clip_high == 0.05


def test_an_override_opens_an_empty_section():
    tree = {"learner": None}
    apply_override(tree, "learner.optimizer.lr=1")
    assert tree == {"learner": {"optimizer": {"lr": 1}}}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not YAML"),
        ("a: " + "1" * 5000, "not YAML: line 1, column 4: '1111"),
        ("- 1", "expected sections"),
        ("", "expected sections"),
        ("\xff\xfe", "expected sections"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, part):
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    assert part in complaint(file)


def test_a_missing_file_says_where_the_shipped_ones_are(tmp_path):
    assert "no such configuration file" in complaint(tmp_path / "none.yaml")


def test_yaml_constructs_no_objects(tmp_path):
    file, marker = tmp_path / "evil.yaml", tmp_path / "marker"
    file.write_text(f"model: !!python/object/apply:os.system ['touch {marker}']")
    assert "not YAML" in complaint(file)
    assert not marker.exists()


def test_a_stage_knows_only_its_own_keys(tmp_path):
    file = tmp_path / "sft.yaml"
    file.write_text(
        textwrap.dedent("""
            model: {path: m}
            data: {train: t.jsonl}
            trainer: {run_dir: r, steps: 1}
            rollout: {completions: 8}
        """)
    )
    assert "unknown key rollout" in complaint(file, schema=SftConfig)


def test_cache_paths_stay_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert resolve_path("cache://models/m") == tmp_path / "models" / "m"
    assert str(resolve_path("a/b")) == "a/b"
    with pytest.raises(ConfigError, match="leaves the cache"):
        resolve_path("cache://../../etc/passwd")


def test_home_is_the_users_own(path, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config(GrpoConfig, path, ["trainer.run_dir=~/runs/x"]).trainer.run_dir == f"{tmp_path}/runs/x"
    assert resolve_path("~/rows") == tmp_path / "rows"
    assert "~nobody-here is no home directory" in complaint(path, "trainer.run_dir=~nobody-here/x")
    with pytest.raises(ConfigError, match="~nobody-here is no home directory"):
        resolve_path("~nobody-here/rows")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("12", 12),
        ("-7", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", "017"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026_11_28", "2026_11_28"),
        ("+1e3", 1000.0),
        ("_1", "_1"),
        ("yes", "yes"),
        ("off", "off"),
        ("NO", "NO"),
        ("true", True),
        ("2026-11-28", "2026-11-28"),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("1.2.3", "1.2.3"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("'12'", "12"),
        ("[1e-3, no]", [1e-3, "no"]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    tree = {}
    apply_override(tree, f"args.k={text}")
    found = plain(tree["args"]["k"])
    assert found == value and type(found) is type(value)


def test_plugins_get_numbers_as_numbers(path):
    config = load_config(GrpoConfig, path, ["rewards.functions=[{name: a.py:f, args: {eps: 1e-3}}]"])
    assert config.rewards.functions[0].args == {"eps": 1e-3}


def test_numbers_are_text_where_text_is_wanted(path):
    for text in ("20261128", "2026-11-28", "007", "no", "2026_11_28", "1.10", "12e4567", "1e5", "0x1F", "+1e3", ".inf"):
        assert load_config(GrpoConfig, path, [f"trainer.run_dir={text}"]).trainer.run_dir == text
        columns = load_config(GrpoConfig, path, [f"data.columns={{{text}: {text}}}"]).data.columns
        assert columns == {text: text}, "names and values of a mapping too"
    assert load_config(GrpoConfig, path, ["trainer.steps=1_000"]).trainer.steps == 1000


TEXTS = ["1e-3", "0o17", "+1e3", "1e5", "0x1F", "1_000", "no", "1:30", "007", "~", "", ".inf", "2026_11_28"]


def test_what_is_dumped_is_read_back_as_it_was(path, tmp_path):
    values = [*TEXTS, math.inf, -math.inf, 1e-5, 31, None, True]
    columns = ", ".join(f"{text!r}: {text!r}" for text in TEXTS)
    config = load_config(GrpoConfig, path, [f"data.columns={{{columns}}}", "model.path='1e5'", "trainer.run_dir=1.10"])
    functions = tuple(f.model_copy(update={"args": {"k": values}}) for f in config.rewards.functions)
    config = config.model_copy(update={"rewards": config.rewards.model_copy(update={"functions": functions})})
    for text in (dump_config(config), commented(config)):
        (tmp_path / "again.yaml").write_text(text)
        again = load_config(GrpoConfig, tmp_path / "again.yaml")
        assert again == config
        found = again.rewards.functions[0].args["k"]
        assert [(value, type(value)) for value in found] == [(value, type(value)) for value in values]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model: &a {path: *a}", "line 1, column 8: an anchor within itself"),
        ("model: &a [*a]", "an anchor within itself"),
        ("model: !!binary aGk=", "line 1, column 8: could not determine a constructor for the tag"),
        ("model: !!timestamp 2026-11-28", "line 1, column 8: could not determine a constructor for the tag"),
        (r'model: "\ud800"', r"line 1, column 8: '\ud800' cannot be read as str"),
        ("model: " + "[" * 500, "lists or sections within each other"),
        ("model: {1.10: a, 1.1: b}", "key 1.1 stands twice"),
    ],
)
def test_what_no_configuration_can_hold_is_refused_with_its_place(tmp_path, text, part):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert part in complaint(file)


@pytest.mark.parametrize(
    "override",
    [
        "learner.optimizer.lr=.inf",
        "learner.optimizer.lr=1e400",
        "learner.optimizer.weight_decay=.inf",
        "learner.optimizer.betas=[1.5, -3]",
        "learner.optimizer.betas=[1.0, 0.9]",
        "learner.optimizer.betas=[.nan, 0.9]",
        "rewards.functions=[{name: boxed_accuracy, weight: .nan}]",
        "rewards.functions=[{name: boxed_accuracy, weight: .inf}]",
        "rollout.temperature=.inf",
        "algorithm.clip_low=.inf",
    ],
)
def test_numbers_without_sense_are_refused(path, override):
    text = complaint(path, override)
    assert override.partition("=")[0] in text and ("finite number" in text or "than" in text), text


def test_truth_is_no_number(path):
    for override in ("learner.optimizer.lr=true", "trainer.steps=true", "trainer.eval_every=false", "model.path=true"):
        assert "is neither a number nor text" in complaint(path, override)
    assert "learner.optimizer.lr is '1:30'" in complaint(path, "learner.optimizer.lr=1:30")
    assert load_config(GrpoConfig, path, ["data.shuffle=no"]).data.shuffle is False


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("lr=1e-5", "unknown key lr: did you mean learner.optimizer.lr?"),
        ("rollout.lr=1", "unknown key rollout.lr: did you mean learner.optimizer.lr?"),
        ("steps=3", "unknown key steps: did you mean trainer.steps?"),
        ("trainer.stepz=3", "unknown key trainer.stepz: did you mean steps?"),
    ],
)
def test_a_key_without_its_section_is_told_where_it_stands(path, override, hint):
    assert hint in complaint(path, override)
