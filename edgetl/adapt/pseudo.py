"""Labels that a network gives to unlabelled frames, where it is sure; what it is not sure of is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.data import VOID, Dataset, read_image
from edgetl.data.dataset import Sample
from edgetl.heads import Kind
from edgetl.models.infer import TorchInfer
from edgetl.models.network import Network
from edgetl.models.normalise import Normalise
from edgetl.models.segmenter import enlarged
from edgetl_runtime.decode import decode
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Geometry, Letterbox
from edgetl_runtime.progress import Progress
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import ClassifyHead, DetectHead, Preprocess, SegmentHead

DOUBT = 0.4
"""Boxes from this share of their class's threshold up to it are neither learnt nor denied."""
SURE_PIXEL = 0.9
SURE_CATEGORY = 0.9


def pseudo_labelled(
    network: Network,
    kinds: Sequence[Kind],
    preprocess: Preprocess,
    unlabelled: Dataset,
    like: Dataset,
    folder: Path,
    *,
    title: str = "",
) -> Dataset:
    """The unlabelled images with the network's own labels, in the classes and layers of `like`.

    folder: masks are written there. Boxes at or above their class's threshold are labels, those of lower scores down
    to DOUBT of it are marked ignore; pixels and categories count from a probability of 0.9. Raises InputError for an
    image that can't be read and a mask that can't be written.
    """
    letterbox, normalise = Letterbox(preprocess), Normalise(preprocess)
    infer = TorchInfer(network, kinds, preprocess)
    samples = []
    with Progress(title or "pseudo-labels", len(unlabelled), unit="images") as progress:
        for index, sample in enumerate(unlabelled.samples):
            image = read_image(sample.image)
            tensor, place = letterbox(image)
            labelled = dataclasses.replace(sample, masks=(None,) * len(like.layers))
            outputs = infer(tensor)
            for kind in kinds:
                head = kind.head
                if isinstance(head, DetectHead):
                    labelled = _boxes(labelled, decode(outputs, _doubtful(head), place), head, place)
                elif isinstance(head, ClassifyHead):
                    labelled = _category(labelled, outputs["probabilities"])
                else:
                    with torch.inference_mode():
                        raw = network(normalise(torch.from_numpy(tensor))).heads[head.name]
                        assert isinstance(raw, torch.Tensor)
                        mask = _mask(raw, head, place)
                    labelled = _with_mask(labelled, mask, like, head, folder / f"{head.name}-{index:06d}.png")
            samples.append(labelled)
            progress.step()
    return dataclasses.replace(like, name=f"{unlabelled.name}, pseudo-labelled", samples=tuple(samples))


def _doubtful(head: DetectHead) -> DetectHead:
    return msgspec.structs.replace(head, thresholds=tuple(t * DOUBT for t in head.thresholds))


def _boxes(sample: Sample, found: object, head: DetectHead, place: Geometry) -> Sample:
    assert isinstance(found, Detections)
    height, width = place.source_hw
    boxes = (found.boxes_xyxy / np.array([width, height, width, height])).astype(np.float32)
    unsure = found.scores < np.array(head.thresholds, np.float32)[found.classes]
    return dataclasses.replace(sample, boxes=boxes, labels=found.classes, ignore=unsure)


def _category(sample: Sample, probabilities: NDArray[np.generic]) -> Sample:
    row = np.asarray(probabilities, np.float32)[0]
    best = int(row.argmax())
    return dataclasses.replace(sample, category=best if row[best] >= SURE_CATEGORY else -1)


def _mask(raw: torch.Tensor, head: SegmentHead, place: Geometry) -> NDArray[np.uint8]:
    """(H, W) uint8 at the source's size, VOID where the network is not sure."""
    import cv2

    share, index = torch.softmax(enlarged(raw, head.stride), 1).max(1)
    mask = torch.where(share >= SURE_PIXEL, index, VOID)[0].to(torch.uint8).numpy()
    whole = cv2.resize(mask, (place.size_hw[1], place.size_hw[0]), interpolation=cv2.INTER_NEAREST)
    inner = whole[place.pad_top : place.pad_top + place.new_hw[0], place.pad_left : place.pad_left + place.new_hw[1]]
    size = (place.source_hw[1], place.source_hw[0])
    return np.asarray(cv2.resize(inner, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _with_mask(sample: Sample, mask: NDArray[np.uint8], like: Dataset, head: SegmentHead, path: Path) -> Sample:
    """The sample with this mask written in the values of its layer."""
    import cv2

    layer = next(i for i, one in enumerate(like.layers) if one.name == head.name)
    table = like.layers[layer].table()
    # A class may have several values, and void is any value without a class: 255 may have one.
    first = {int(index): value for value, index in reversed(list(enumerate(table)))}
    values = np.array([first.get(index, 0) for index in range(256)], np.uint8)
    if not cv2.imwrite(str(path), values[mask]):
        raise InputError(f"{path}: can't be written", remedy="free some space")
    masks = list(sample.masks)
    masks[layer] = path
    return dataclasses.replace(sample, masks=tuple(masks))
