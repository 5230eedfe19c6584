"""Small drawn datasets with boxes, masks and categories, small detectors, and torch on one thread."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgetl.models.detr import Detr

SOURCE_HW = (90, 160)
SMALL = {
    "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "d_model": 32, "decoder_ffn_dim": 32, "decoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_queries": 12, "num_denoising": 8,
}  # fmt: skip
SMALL_DFINE = {"encoder_in_channels": [48, 64], "decoder_in_channels": [32, 32], "decoder_n_points": [2, 2]}
SMALL_HGNET = {
    "hidden_sizes": [16, 32, 48, 64], "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 32, 48],
    "stage_mid_channels": [8, 8, 16, 16], "stage_out_channels": [16, 32, 48, 64], "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
}  # fmt: skip
SMALL_RTDETR = {"encoder_in_channels": [16, 16, 32], "decoder_in_channels": [32, 32, 32], "decoder_n_points": 2}
SMALL_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take a hundred times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shrunken(entry: Detr, values: dict[str, Any], backbone: dict[str, Any]) -> Detr:
    return dataclasses.replace(
        entry, values={**entry.values, **SMALL, **values}, backbone={**entry.backbone, **backbone}
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """D-FINE and RT-DETRv2 at a hundredth of their size: dfine-tiny and rtdetrv2-tiny."""
    from edgetl.models.detr import DETRS

    monkeypatch.setitem(DETRS, "dfine-tiny", shrunken(DETRS["dfine-nano"], SMALL_DFINE, SMALL_HGNET))
    monkeypatch.setitem(DETRS, "rtdetrv2-tiny", shrunken(DETRS["rtdetrv2-r18"], SMALL_RTDETR, SMALL_RESNET))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes (car, person) and masks (layer `ground`: other, road) of six images to train on and four to judge by.

    Every image shows a red car on a dark road below a light sky; the upper half of the road's edge is void.
    """
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp("drawn") / "scenes"
    for split, count, first in (("train", 6, 0), ("val", 4, 50)):
        images, annotations = [], []
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / "ground" / split).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng(first + i)
            horizon = 40 + int(rng.integers(0, 10))
            patches = cv2.resize(
                rng.integers(150, 230, (5, 7, 3), np.uint8), (160, 90), interpolation=cv2.INTER_NEAREST
            )
            patches[horizon:] = rng.integers(30, 60, (90 - horizon, 160, 3), np.uint8)
            x, y = int(rng.integers(5, 110)), int(rng.integers(30, 50))
            cv2.rectangle(patches, (x, y), (x + 40, y + 30), (30, 60, 250), -1)
            mask = np.zeros(SOURCE_HW, np.uint8)
            mask[horizon:], mask[horizon : horizon + 3] = 1, 255
            mask[y : y + 31, x : x + 41] = 0
            name = f"images/{split}/{first + i:03d}.png"
            cv2.imwrite(str(root / name), patches)
            cv2.imwrite(str(root / "masks" / "ground" / split / f"{first + i:03d}.png"), mask)
            images.append({"id": i, "file_name": name, "width": 160, "height": 90})
            annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [x, y, 40, 30]})
        categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(document))
    (root / "masks" / "ground" / "classes.txt").write_text("other\nroad\n")
    return root


@pytest.fixture(scope="session")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of categories: blue `go` and red `stop`, four of each to train on and three to judge by."""
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp("drawn") / "signs"
    for split, count, first in (("train", 4, 0), ("val", 3, 50)):
        for label, colour in (("go", (230, 60, 30)), ("stop", (30, 40, 230))):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng([first + i, len(label)])
                picture = cv2.resize(
                    rng.integers(60, 190, (6, 9, 3), np.uint8), (96, 64), interpolation=cv2.INTER_NEAREST
                )
                cv2.circle(picture, (40 + 4 * i, 32), 22, colour, -1)
                cv2.imwrite(str(folder / f"{i}.png"), picture)
    return root
