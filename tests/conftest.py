"""What several test folders share: where real data is, and small datasets on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings

# CI must give the same answer twice; elsewhere hypothesis goes on looking for new examples.
settings.register_profile("edgetl", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("edgetl")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Computed features go into a folder of this run, not into the user's cache."""
    os.environ["EDGETL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real driving data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("EDGETL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "bdd" / "data.yaml").is_file():
        pytest.skip(f"no real driving data at {folder}; set EDGETL_DATA to its folder")
    return folder


@pytest.fixture
def coco_dir(tmp_path: Path) -> Path:
    """A COCO dataset of four drawn images, two classes, one object ignored."""
    import cv2
    import numpy as np

    root = tmp_path / "coco"
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(4):
            picture = np.full((90, 160, 3), 90, np.uint8)
            x, y = 10 + 20 * i, 20 + 5 * i
            cv2.rectangle(picture, (x, y), (x + 40, y + 30), (30, 60, 220), -1)
            file_name = f"images/{split}/{i:03d}.png"
            cv2.imwrite(str(root / file_name), picture)
            images.append({"id": i, "file_name": file_name, "width": 160, "height": 90, "group": f"drive{i // 2}"})
            annotations.append(
                {"id": i, "image_id": i, "category_id": 1, "bbox": [x, y, 40, 30], "area": 1200, "iscrowd": 0}
            )
        annotations.append({"id": 9, "image_id": 0, "category_id": 5, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 1})
        document = {
            "info": {"domain": "day"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 5, "name": "person"}, {"id": 1, "name": "car"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def yolo_dir(tmp_path: Path) -> Path:
    """A YOLO dataset of three drawn images, one without a label file."""
    import cv2
    import numpy as np

    root = tmp_path / "yolo"
    for folder in ("images/day", "labels/day"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(root / f"images/day/cam{i}-{i:03d}.jpg"), np.full((48, 64, 3), 120, np.uint8))
        if i < 2:
            (root / f"labels/day/cam{i}-{i:03d}.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.2 0.2\n")
    (root / "data.yaml").write_text(
        "path: .\ntrain: images/day\nval: images/day\ngroup_pattern: '^[^-]+'\nnames: {0: car, 1: bus}\n"
    )
    return root
