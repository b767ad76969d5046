"""The vision-only stage: which pictures at which step, its labels, and the command: killed, resumed, on two ranks."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from pangu_rl.config.load import checked
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import CheckpointError, ConfigError, DataError, RunError
from pretrain.families.pangu import Pangu
from pretrain.processing.pictures import decode
from pretrain.train.vision.batches import BatchReader, PictureBatch
from pretrain.train.vision.labels import drawn, open_labels, take_labels
from pretrain.train.vision.learner import VisionLearner, decay_groups
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import distinct_pictures, image_at, open_picture_rows
from pretrain.train.vision.run import Cascade, VisionParts
from tests.builders import build_tiny_vl_model
from tests.e2e import runs
from tests.unit.data.vl_folder import draw

PICTURES, CLASSES, LABELS = 12, 5, 2


def stage(folder: Path, /, **sections: Any) -> VisionStageConfig:
    tree: dict[str, Any] = {
        "model": {"path": str(folder / "tiny"), "dtype": "float32"},
        "data": {
            "train": str(folder / "rows.jsonl"),
            "media_root": str(folder / "media"),
            "labels": str(folder / "labels.parquet"),
        },
        "classes": CLASSES,
        "labels": LABELS,
        "cascade": [{"edge": 56, "epochs": 2}, {"edge": 84, "epochs": 1, "lr_factor": 0.5}],
        "loss": {"scale": 16.0, "rate": 0.5},
        "batch": 4,
        "lr": 1e-2,
        "learner": {"embedding": 8, "cpu_threads": 1, "warmup_steps": 2},
        "trainer": {"run_dir": str(folder / "run"), "checkpoint_every": 4, "keep_checkpoints": 9},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return checked(VisionStageConfig, tree, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vision")
    write_pictures(home)
    return home


def write_pictures(home: Path) -> None:
    """Twelve pictures of several sizes, their rows, labels and a tiny model."""
    names = [f"p{number:02d}.png" for number in range(PICTURES)]
    for number, name in enumerate(names):
        draw(home / "media" / name, 60 + 9 * number, 90, seed=number)
    rows = [
        {"id": str(number), "prompt": "What?", "response": "A thing.", "images": [name, names[0]]}
        for number, name in enumerate(names)
    ]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = np.random.default_rng(0).permuted(np.tile(np.arange(CLASSES), (PICTURES, 1)), axis=1)[:, :LABELS]
    pq.write_table(
        pa.table({"id": [str(number) for number in range(PICTURES)], "labels": labels.tolist()}),
        home / "labels.parquet",
    )
    build_tiny_vl_model(home / "tiny", dtype="float32")


def run(config: VisionStageConfig) -> Path:
    directory = Path(config.trainer.run_dir)
    path = directory.with_name(f"{directory.name}.yaml")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = runs.run("vit", path)
    assert done.returncode == 0, done.stderr
    return directory


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "checkpoints/step_000009/hf/model.safetensors")


def logged(directory: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    return logged(directory, "train/loss")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return run(stage(folder, trainer={"run_dir": str(folder / "whole")}))


def test_the_cascade_by_hand(folder: Path) -> None:
    """12 pictures in batches of 4: three steps an epoch, two epochs at 56 pixels, one at 84 with half the rate."""
    cascade = Cascade(stage(folder), PICTURES)
    assert cascade.steps == 9
    assert [cascade.resolution(step).edge for step in (1, 6, 7, 9)] == [56, 56, 84, 84]
    # Up in two steps, then down by an eighth of the whole way from step 2 to behind step 9.
    assert [cascade.rate(step) for step in (1, 2, 3, 6)] == pytest.approx([5e-3, 1e-2, 1e-2 * 7 / 8, 1e-2 * 4 / 8])
    assert cascade.rate(9) == pytest.approx(1e-2 / 8 * 0.5)
    for first in (1, 4, 7):
        epoch = np.concatenate([cascade.batch(step) for step in range(first, first + 3)])
        assert sorted(epoch) == list(range(PICTURES))
    assert not np.array_equal(cascade.batch(1), cascade.batch(4))


def test_pictures_of_more_than_are_asked_for_are_drawn_once_for_all_epochs(folder: Path) -> None:
    cascade = Cascade(stage(folder), PICTURES, known=40)
    epochs = [np.concatenate([cascade.batch(step) for step in range(first, first + 3)]) for first in (1, 4, 7)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs) and len(set(epochs[0])) == PICTURES
    assert max(epochs[0]) >= PICTURES
    assert Cascade(stage(folder, trainer={"seed": 1}), PICTURES, known=40).batch(1).tolist() != epochs[0][:4].tolist()


class Calls:
    """Learners and run at once, which write down what is asked of them."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def prepare(self, batches: list[PictureBatch], step: int) -> None:
        self.made.append(f"prepare {step} at {batches[0].edge}")

    def wait(self) -> list[str]:
        self.made.append("wait")
        return ["p03.png: is none"]

    def update(self) -> dict[str, float]:
        self.made.append("update")
        return {"loss": 1.0, "skipped": 0.0}

    def phase(self, name: str) -> AbstractContextManager[None]:
        self.made.append(name)
        return nullcontext()


def test_the_next_steps_pictures_are_under_way_while_a_step_trains(folder: Path) -> None:
    """From step 6 on, as after a resume; the ninth is the last."""
    calls = Calls()
    parts = VisionParts(Cascade(stage(folder), PICTURES), calls)
    trained = [parts.train_step(calls, step) for step in (6, 7, 8, 9)]
    step = ["data", "wait", "train", "update"]
    expected = ["prepare 6 at 56", "prepare 7 at 84", *step, "prepare 8 at 84", *step, "prepare 9 at 84", *step, *step]
    assert calls.made == expected
    data = {"data/pictures": 12.0, "data/edge": 56.0, "data/skipped": 1.0}
    assert trained[0] == {"train/loss": 1.0, "train/skipped": 0.0} | data
    assert trained[3]["data/skipped"] == parts.state_dict()["skipped"] == 4


def labelled(config: VisionStageConfig, target: Path) -> PictureFile:
    files = open_picture_rows(config)
    take_labels(config, files, target)
    return open_labels(target, config, files)


def learner_of(config: VisionStageConfig, pictures: PictureFile) -> VisionLearner:
    return VisionLearner(config, "cpu", 0, BatchReader(config, open_picture_rows(config), pictures))


def updated(learner: VisionLearner, numbers: list[int], edge: int, step: int) -> dict[str, float]:
    learner.prepare(PictureBatch(np.array(numbers), edge, 1e-2), step)
    return learner.update()


def test_a_tower_in_bfloat16_learns_what_it_learns_in_float32(folder: Path, tmp_path: Path) -> None:
    """Its weights stay float32 and autocast runs it in bfloat16: an eighth of the gradient is more than rounding."""
    norms = []
    for dtype in ("float32", "bfloat16"):
        config = stage(folder, model={"dtype": dtype})
        learner = learner_of(config, labelled(config, tmp_path / "labels.arrow"))
        norms.append(updated(learner, [0, 1, 2, 3], 56, 1)["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=0.125)
    assert norms[1] != norms[0]


def gradients_of(learner: VisionLearner) -> list[torch.Tensor]:
    """Of the tower and the head at the first step, after clipping: a tenth of it is AdamW's first mean."""
    return [learner.optimizer.state[parameter]["exp_avg"] * 10 for parameter in learner.trained.values()]


def require_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Within 1e-5 of the gradient's norm, which clipping has made 1."""
    assert sum(one.square().sum() for one in expected).sqrt() == pytest.approx(1.0, rel=1e-3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_micro_batches_train_as_the_whole_batch_does(folder: Path, tmp_path: Path) -> None:
    found = []
    for size in (None, 1, 3):
        config = stage(folder, learner={"micro_batch": size, "grad_clip": 1e-3})
        learner = learner_of(config, labelled(config, tmp_path / "labels.arrow"))
        metrics = updated(learner, [5, 2, 7, 3], 56, 1)
        found.append((metrics["loss"], metrics["tflop"], [one * 1e3 for one in gradients_of(learner)]))
    for loss, tflop, gradients in found[1:]:
        assert (loss, tflop) == pytest.approx(found[0][:2], rel=1e-6)
        require_close(gradients, found[0][2])


def test_pictures_keep_their_shape_or_are_squares(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 x 90 pixels at an edge of 112: 28 x 56 to 112 x 112 in their own shape; 8 x 8 patches as a square. Either way
    they are decoded within bounds."""
    grids, bounded = [], []

    def noted(content: bytes, path: str) -> Image.Image:
        bounded.append(path)
        return decode(content, path)

    monkeypatch.setattr("pretrain.train.vision.batches.decode_bounded", noted)
    for shape in ("native", "square"):
        config = stage(folder, shape=shape)
        reader = BatchReader(config, open_picture_rows(config), labelled(config, tmp_path / "labels.arrow"))
        [part] = reader.load(PictureBatch(np.array([0, 11]), 112, 1e-2), 1)
        assert len(part.patches) == part.grids.prod(1).sum()
        grids.append(part.grids.tolist())
    assert grids[0][0][1] > grids[0][0][2] and grids[0][1][1] < grids[0][1][2]
    assert grids[1] == [[1, 8, 8], [1, 8, 8]]
    assert sorted(bounded) == ["p00.png", "p00.png", "p11.png", "p11.png"]
    with pytest.raises(ConfigError, match="a square of 90 pixels"):
        stage(folder, shape="square", cascade=[{"edge": 90, "epochs": 1}])


def test_a_picture_is_taken_once_however_many_rows_show_it(folder: Path) -> None:
    """Each row's own, and the first row's second one is its first: rows of the first picture have it first."""
    files = open_picture_rows(stage(folder))
    places = distinct_pictures(stage(folder), files)
    assert [image_at(files, *place) for place in places.tolist()] == [
        f"p{number:02d}.png" for number in range(PICTURES)
    ]
    assert drawn(12, stage(folder, data={"pictures": 5}), "rows") == 5
    with pytest.raises(DataError, match=r"12 pictures, data\.pictures asks for 13"):
        drawn(12, stage(folder, data={"pictures": 13}), "rows")
    with pytest.raises(DataError, match="fewer than a batch of 4"):
        drawn(3, stage(folder), "rows")


IDS = ["3", "0", "7", "1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": IDS, "label": [0] * 4}, "no column labels"),
        ({"image": IDS, "labels": [[0, 1]] * 4}, "no column id"),
        ({"id": IDS, "labels": [[0, 1], [0, 5], [1, 2], [1, 3]]}, r"row 2: labels \[0, 5\], .* 2 of 0 to 4"),
        ({"id": IDS, "labels": [[0, 1], [0], [1, 2], [1, 3]]}, r"row 2: labels \[0\]"),
        ({"id": IDS, "labels": [[0, 1], None, [1, 2], [1, 3]]}, "row 2: labels None"),
        ({"id": ["3", "0", "70", "1"], "labels": [[0, 1]] * 4}, r"row 3: id '70' is of no row of .*rows\.jsonl"),
        ({"id": ["3", "0", "3", "1"], "labels": [[0, 1]] * 4}, "row 3: id '3' stands there a second time"),
        ({"id": ["3", "3"], "labels": [[0, 1]] * 2}, "row 2: id '3' has labels of that picture already"),
    ],
)
def test_labels_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, table: Any, message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    config = stage(folder, data={"labels": str(tmp_path / "labels.parquet")})
    with pytest.raises(DataError, match=message):
        take_labels(config, open_picture_rows(config), tmp_path / "labels.arrow")


def test_labels_are_found_by_the_ids_of_rows_in_whatever_order(folder: Path, tmp_path: Path) -> None:
    """Two pictures of row 7, whose second one is the first of all."""
    labels = {"id": ["3", "7", "7", "1"], "picture": [0, 0, 1, 0], "labels": [[0, 1], [2, 3], [4, 0], [1, 2]]}
    pq.write_table(pa.table(labels), tmp_path / "labels.parquet")
    config = stage(folder, data={"labels": str(tmp_path / "labels.parquet")})
    found = labelled(config, tmp_path / "labels.arrow")
    entries = [found.entry(number) for number in range(len(found))]
    assert [entry["labels"] for entry in entries] == labels["labels"]
    files = open_picture_rows(config)
    named = [image_at(files, entry["row"], entry["picture"]) for entry in entries]
    assert named == ["p03.png", "p07.png", "p00.png", "p01.png"]


def test_labels_of_many_batches_are_found_again(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Read in batches that would part rows, and written in others: every picture has its own labels."""
    monkeypatch.setattr("pretrain.train.vision.given.BATCH", 3)
    monkeypatch.setattr("pretrain.train.vision.picture_file.ROWS", 5)
    ids = [str(number) for number in range(PICTURES) for _ in range(2)]
    labels = [[number % CLASSES, (number + 1) % CLASSES] for number in range(len(ids))]
    table = {"id": ids, "picture": [0, 1] * PICTURES, "labels": labels}
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    found = labelled(stage(folder, data={"labels": str(tmp_path / "labels.parquet")}), tmp_path / "labels.arrow")
    assert len(found) == 2 * PICTURES
    assert [found.entry(number)["labels"] for number in range(len(found))] == labels


def test_labels_of_other_rows_or_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    config, target = stage(folder), tmp_path / "labels.arrow"
    labelled(config, target)
    (tmp_path / "rows.jsonl").write_text((folder / "rows.jsonl").read_text().replace('"id": "5"', '"id": "x"'))
    other = open_picture_rows(stage(folder, data={"train": str(tmp_path / "rows.jsonl")}))
    with pytest.raises(DataError, match="its labels belong to other rows"):
        open_labels(target, config, other)
    with pytest.raises(DataError, match="5 classes, the stage 6"):
        open_labels(target, stage(folder, classes=6), open_picture_rows(config))
    with pytest.raises(DataError, match=r"the stage wants .*\[3\]"):
        open_labels(target, stage(folder, labels=3), open_picture_rows(config))
    with pytest.raises(DataError, match="no Arrow file of pictures"):
        open_labels(folder / "labels.parquet", config, open_picture_rows(config))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"labels": 5}, "leave no negatives"),
        ({"learner": {"ranks": 3}}, "make it a multiple"),
        ({"cascade": [{"edge": 20, "epochs": 1}]}, "less than a token"),
        ({"regions": {}}, "data.labels are of whole pictures"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(folder: Path, sections: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stage(folder, **sections)


def test_the_tower_is_trained_and_nothing_else(folder: Path, whole: Path) -> None:
    before, after = load_file(folder / "tiny/model.safetensors"), tensors(whole)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {Pangu({}, Path()).part(name) for name in changed} == {"encoder"}
    first = [name for name in before if name.startswith("visual.patch_embed") or ".blocks.0." in name]
    assert changed.issuperset(first)


def test_the_loss_falls(whole: Path) -> None:
    found = losses(whole)
    assert len(found) == 9 and np.mean(found[-3:]) < np.mean(found[:3])


def test_a_run_that_was_cut_short_ends_the_same_to_the_bit(folder: Path, whole: Path) -> None:
    again = folder / "again"
    shutil.copytree(whole, again)
    for step in (8, 9):
        shutil.rmtree(again / f"checkpoints/step_{step:06d}")
    run(stage(folder, trainer={"run_dir": str(again)}))
    one, other = tensors(whole), tensors(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(again) == losses(whole)


def test_two_ranks_train_as_one_does(folder: Path, whole: Path) -> None:
    """Up to float32 rounding, which nine steps of AdamW carry on."""
    two = run(stage(folder, learner={"ranks": 2}, trainer={"run_dir": str(folder / "two")}))
    assert losses(two) == pytest.approx(losses(whole), rel=1e-4)
    assert logged(two, "train/tflop") == pytest.approx(logged(whole, "train/tflop"), rel=1e-6)
    assert all(0 < share < 1 for share in logged(two, "speed/mfu"))


def poison(learner: VisionLearner, step: int) -> None:
    """Have the embedding of the last picture of `step` be no number."""
    of = learner._loss

    def poisoned(found: tuple[torch.Tensor, ...], parts: Any, at: int) -> Any:
        good = torch.ones_like(found[0])
        good[-1] = torch.nan if at == step else 1.0
        return of((found[0] * good,), parts, at)

    learner._loss = poisoned


def weights_and_centres(learner: VisionLearner) -> list[torch.Tensor]:
    return [one.detach().clone() for one in (*learner.trained.values(), learner.centres.weight)]


def test_a_gradient_that_is_not_finite_leaves_tower_and_centres_and_the_next_step_as_they_were(
    folder: Path, tmp_path: Path
) -> None:
    labels = labelled(stage(folder), tmp_path / "labels.arrow")
    config = stage(folder, learner={"embedding": 8, "cpu_threads": 1, "micro_batch": 2, "nonfinite_limit": 1})
    untouched, learner = (learner_of(config, labels) for _ in range(2))
    for one in (untouched, learner):
        assert updated(one, [0, 1, 2, 3], 56, 1)["skipped"] == 0.0
    before = weights_and_centres(learner)
    poison(learner, 2)
    assert updated(learner, [4, 5, 6, 7], 56, 2)["skipped"] == 1.0
    assert all(map(torch.equal, weights_and_centres(learner), before))
    assert [updated(one, [4, 5, 6, 7], 56, 3)["skipped"] for one in (learner, untouched)] == [0.0, 0.0]
    assert all(map(torch.equal, weights_and_centres(learner), weights_and_centres(untouched)))
    assert not all(map(torch.equal, weights_and_centres(learner), before))


def test_decay_is_of_matrices_alone() -> None:
    """Without a gradient a step at 0.1 with decay 0.5 leaves 1 - 0.1 * 0.5 of a matrix, and all of a vector."""
    shapes = {"proj.weight": (2, 2), "proj.bias": (2,), "norm.weight": (2,), "patch.weight": (2, 3, 2, 2)}
    trained = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(decay_groups(trained, 0.5), lr=0.1).step()
    assert [one.max().item() for one in trained.values()] == pytest.approx([0.95, 1.0, 1.0, 0.95])


def test_a_checkpoint_whose_vectors_decayed_is_refused(folder: Path, tmp_path: Path) -> None:
    config = stage(folder)
    learner = learner_of(config, labelled(config, tmp_path / "labels.arrow"))
    assert [group["weight_decay"] for group in learner.optimizer.param_groups] == [0.2, 0.0]
    learner.save(tmp_path).result()
    learner.load(tmp_path)
    tower = torch.load(tmp_path / "tower.pt", weights_only=True)
    groups = tower["optimizer"]["param_groups"]
    groups[:] = [groups[0] | {"params": [*groups[0]["params"], *groups[1]["params"]]}]
    torch.save(tower, tmp_path / "tower.pt")
    with pytest.raises(CheckpointError, match=r"saved with parameter groups of \[\d+\], this run has \[\d+, \d+\]"):
        learner.load(tmp_path)


def test_more_steps_that_are_not_finite_than_are_borne_end_the_run(folder: Path, tmp_path: Path) -> None:
    config = stage(folder, learner={"embedding": 8, "cpu_threads": 1, "nonfinite_limit": 1})
    learner = learner_of(config, labelled(config, tmp_path / "labels.arrow"))
    for step in (1, 2):
        poison(learner, step)
    assert updated(learner, [0, 1, 2, 3], 56, 1)["skipped"] == 1.0
    with pytest.raises(RunError, match=r"not finite in 2 steps in a row \(learner.nonfinite_limit 1\)"):
        updated(learner, [0, 1, 2, 3], 56, 2)
