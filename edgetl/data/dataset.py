"""The one form in which every dataset is held: samples with boxes, masks or a category, groups and a domain."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgetl.data.header import read_header, untagged
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are decoded: a small file may claim any size."""
VOID = 255
"""The class index of a mask's pixels that mean nothing: neither learnt nor scored."""
OUTSIDE_TOLERANCE = 0.01
"""How far a box may stand out of its image, as a share of the image's side, before it is an error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    boxes: (N, 4) float32, x1, y1, x2, y2 as shares of the image's width and height (0..1).
    labels: (N,) int64 index into the dataset's classes. ignore: (N,) bool, neither right nor wrong to find.
    group: what must stay on one side of a split (a drive, a camera, a physical object).
    category: index into the dataset's categories, -1 where the image as a whole has none.
    masks: one file for each of the dataset's layers, None where this image has none.
    """

    image: Path
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    group: str
    domain: str = ""
    category: int = -1
    masks: tuple[Path | None, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskLayer:
    """One layer of masks: a pixel of `values[i]`, or of one of them, is of `classes[i]`; any other value is void.

    name: a lower-case word, later the name of the network's head. values: 0 to C-1 where empty.
    """

    name: str
    classes: tuple[str, ...]
    values: tuple[int | tuple[int, ...], ...] = ()

    def table(self) -> NDArray[np.uint8]:
        """(256,) uint8: pixel value to class index, VOID for values that mean none."""
        table = np.full(256, VOID, np.uint8)
        for index, value in enumerate(self.values or range(len(self.classes))):
            table[list(value) if isinstance(value, tuple) else value] = index
        return table


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images of one split: names of the classes of boxes, of whole images, and the layers of masks."""

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    categories: tuple[str, ...] = ()
    layers: tuple[MaskLayer, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def fingerprint(self) -> str:
        """SHA-256 over class names, file names, file sizes and labels: equal for equal content."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        digest.update(repr((self.categories, self.layers)).encode() if self.categories or self.layers else b"")
        for s in self.samples:
            digest.update(f"{s.image.name}:{s.image.stat().st_size}".encode())
            digest.update(s.boxes.tobytes())
            digest.update(s.labels.tobytes())
            digest.update(s.ignore.tobytes())
            if s.category >= 0:
                digest.update(str(s.category).encode())
            for mask in s.masks:
                digest.update(f"{mask.name}:{mask.stat().st_size}".encode() if mask else b"-")
        return digest.hexdigest()

    def take(self, count: int) -> Dataset:
        """At most `count` samples, evenly spread over the whole set."""
        if count >= len(self.samples):
            return self
        chosen = np.linspace(0, len(self.samples) - 1, count).round().astype(int)
        return self.only(chosen.tolist())

    def only(self, indices: Iterable[int]) -> Dataset:
        """The same dataset with these samples, in this order."""
        return dataclasses.replace(self, samples=tuple(self.samples[i] for i in indices))


class LabelErrors(InputError):
    """Several wrong labels: `errors` holds one for each item, the message is the first's and says how many follow."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        more = len(errors) - 1
        others = f"{more} other {'entry is' if more == 1 else 'entries are'} wrong too"
        remedy = "; ".join(filter(None, (errors[0].remedy, "`edgetl data check` lists all")))
        super().__init__(f"{errors[0].message} ({others})", remedy=remedy)
        self.errors = tuple(errors)


def each_sample(items: Iterable[T], read: Callable[[T], Sample]) -> tuple[Sample, ...]:
    """The sample that `read` makes of each item; all are read before anything is said.

    Raises the InputError of a single wrong item, and LabelErrors for several.
    """
    samples, errors = [], []
    for item in items:
        try:
            samples.append(read(item))
        except InputError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else LabelErrors(errors)
    return tuple(samples)


def make_sample(
    image: Path,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    ignore: Sequence[bool],
    *,
    classes: int,
    label_file: Path,
    group: str = "",
    domain: str = "",
) -> Sample:
    """A Sample whose labels were checked. boxes: x1, y1, x2, y2 as shares of the image.

    Raises InputError that names the label file for a class id out of range, a box outside its image or with its
    corners the wrong way round, or values that are not finite. Boxes of no area are left out.
    """
    unknown = next((label for label in labels if not 0 <= label < classes), None)
    if unknown is not None:
        raise InputError(
            f"{label_file}: class id {unknown} of image {image.name} is unknown, expected 0 to {classes - 1}",
            remedy="correct the label or name the class in the dataset's description",
        )
    box_array = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    label_array = np.asarray(labels, dtype=np.int64).reshape(-1)
    ignore_array = np.asarray(ignore, dtype=np.bool_).reshape(-1)
    wrong = ~np.isfinite(box_array).all(axis=1)
    wrong |= (box_array < -OUTSIDE_TOLERANCE).any(axis=1) | (box_array > 1 + OUTSIDE_TOLERANCE).any(axis=1)
    if wrong.any():
        found = [round(float(v), 4) for v in box_array[wrong][0]]
        raise InputError(
            f"{label_file}: a box of image {image.name} stands outside it: {found} as shares of width and height",
            remedy="clip the box to the image or remove it",
        )
    turned = (box_array[:, 2] < box_array[:, 0]) | (box_array[:, 3] < box_array[:, 1])
    if turned.any():
        found = [round(float(v), 4) for v in box_array[turned][0]]
        raise InputError(
            f"{label_file}: a box of image {image.name} ends before it begins: {found} as shares of width and height",
            remedy="put its left and upper edge first, or remove it",
        )
    box_array = box_array.clip(0, 1)
    keep = (box_array[:, 2] > box_array[:, 0]) & (box_array[:, 3] > box_array[:, 1])
    return Sample(image, box_array[keep], label_array[keep], ignore_array[keep], group or image.stem, domain)


def different_names(names: Iterable[str], file: Path) -> tuple[str, ...]:
    """The names of classes as they are. Raises InputError that names the file for one that two classes have."""
    found = tuple(names)
    twice = next((name for i, name in enumerate(found) if name in found[:i]), None)
    if twice is not None:
        raise InputError(f"{file}: two classes are called {twice!r}", remedy="give each its own name")
    return found


def image_files(folder: Path) -> list[Path]:
    """The images below a folder, sorted; hidden files are left out."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 BGR, as a person sees it: the orientation of a JPEG or TIFF is applied.

    Grey becomes three equal channels, alpha is dropped, of 16 bits the upper 8 are kept as a camera would, CMYK is
    converted as OpenCV does. Raises InputError that names a file that can't be read, or claims over 200 megapixels.
    """
    import cv2

    header = read_header(path)
    if header.width * header.height > MAX_PIXELS:
        raise InputError(
            f"{path}: {header.width} x {header.height} pixels, at most {MAX_PIXELS // 1_000_000} million are read",
            remedy="cut or shrink the image",
        )
    data = untagged(_bytes(path))
    # OpenCV knows orientations of other formats too, by version; the size that boxes refer to must not depend on it.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is not None and image.dtype == np.uint16:  # OpenCV's own way differs from one format to the next
        image = image >> 8
    elif image is not None and image.dtype != np.uint8:
        raise InputError(f"{path}: pixels of type {image.dtype}, expected 8 or 16 bits", remedy="convert the image")
    if image is None:
        raise InputError(
            f"{path}: not an image that can be decoded ({data.size} bytes)",
            remedy="replace or remove the file",
        )
    return _upright(np.asarray(image, dtype=np.uint8), header.orientation)


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The image turned and mirrored as its Exif orientation (1 to 8) says."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})", remedy="restore or unlist it") from error


def read_mask(path: Path, layer: MaskLayer) -> NDArray[np.uint8]:
    """A mask file as (H, W) uint8 class indices, VOID where it means none; one of a bit a pixel holds 0 and 255.

    Raises InputError for any other file, and for values that are not those that were written: a JPEG's are near
    them, and decoders stretch those of 2 and 4 bits.
    """
    import cv2

    data = _bytes(path)
    start = data[:32].tobytes()
    if start.startswith(b"\xff\xd8") or (start.startswith(b"\x89PNG") and start[24:25] in {b"\x02", b"\x04"}):
        found = "a JPEG, which changes values" if start.startswith(b"\xff\xd8") else f"{start[24]} bits a pixel"
        raise InputError(f"{path}: expected a mask with one 8-bit channel, found {found}", remedy="convert the mask")
    mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        found = "nothing that can be decoded" if mask is None else f"{mask.dtype} of shape {mask.shape}"
        raise InputError(f"{path}: expected a mask with one 8-bit channel, found {found}", remedy="convert the mask")
    return np.asarray(cv2.LUT(mask, layer.table()), dtype=np.uint8)


def read_mask_of(path: Path, layer: MaskLayer, image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """`read_mask`, of an image (height, width) that it must lie on, at whatever scale.

    Raises InputError for a mask of another shape too: stretched to the image, its pixels would lie elsewhere.
    """
    mask = read_mask(path, layer)
    (rows, columns), (height, width) = mask.shape, image_hw
    if abs(rows * width - columns * height) > max(rows, columns, height, width):
        raise InputError(
            f"{path}: a mask of {columns}x{rows} pixels for an image of {width}x{height}",
            remedy="give masks of their images' size, turned as the images are shown",
        )
    return mask
