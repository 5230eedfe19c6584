"""Small drawn datasets with boxes, masks and categories, and torch on one thread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE_HW = (90, 160)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take a hundred times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
