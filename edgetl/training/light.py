"""Light, weather, lens, sensor and compression: what stands between a scene and the pixels that a network gets.

What works pixel by pixel (gamma, brightness, contrast, colour temperature) is done on a table of 256 levels, by v2's
functions where it has them, and looked up once: a fifth of the time of the same functions on the picture. Saturation
is v2's on the picture. The rest is not, for these reasons. Blur by OpenCV: v2's takes over ten times as long at
640x352, and it has none along a line. JPEG by OpenCV: v2's rests on torchvision.io's, deprecated since 0.29. Grain by
torch with a generator of its own: v2's noise comes from the global one only. Fog and headlights: v2 has none. Rain is
left to roadworld, as it needs depth.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

if TYPE_CHECKING:
    from edgetl.training.augment import AugmentConfig

HORIZON = 0.48
"""Where a driving camera's horizon lies, as a share of the frame's height; mostly 0.4 to 0.55."""
DARK = 70.0
"""Pictures with a lower mean level are not turned to night or fog."""
DARKEST, BRIGHTEST = 40.0, 165.0
"""Brightness by lot takes no picture's mean level beyond these."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a camera sees the scene; the defaults change nothing.

    gamma, brightness, contrast, saturation: factors, contrast about the level `pivot`. balance: factors of red, green
    and blue. headlights: share of the light that is left where the car's own lamps do not reach (1: no lamps). fog:
    optical depth down to the nearest road in view. defocus: standard deviation in pixels. motion: length in pixels and
    direction in radians. grain: standard deviation at mid-grey, in levels. jpeg: quality, 0 for none.
    """

    gamma: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    pivot: float = 127.5
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    headlights: float = 1.0
    fog: float = 0.0
    defocus: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)
    grain: float = 0.0
    jpeg: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the whole frame lies in a picture's pixels: its left, top, width and height."""

    left: float
    top: float
    width: float
    height: float


def draw_look(config: AugmentConfig, rng: np.random.Generator, *, mean: float, height: int) -> Look:
    """A look by lot for a picture with this mean level (0..255) and height in pixels.

    What is dark or bright already goes no further that way, and night and fog are for what is bright by day.
    """
    look = Look(
        gamma=rng.uniform(0.9, 1.1),
        brightness=_bounded(1 + rng.uniform(-config.brightness, config.brightness), mean),
        contrast=1 + rng.uniform(-config.contrast, config.contrast),
        pivot=mean,
        balance=_balance(
            rng.uniform(-config.balance, config.balance), 0.3 * rng.uniform(-config.balance, config.balance)
        ),
        saturation=1 + rng.uniform(-config.saturation, config.saturation) if rng.random() < 0.3 else 1.0,
        grain=rng.uniform(2, 8) if rng.random() < config.noise else 0.0,
        jpeg=int(rng.integers(25, 80)) if rng.random() < config.jpeg else 0,
    )
    weather, lens = rng.random(), rng.random()
    if mean > DARK and weather < config.night:
        look = _night(look, rng, mean)
    elif mean > DARK and weather < config.night + config.fog:
        look = dataclasses.replace(look, fog=rng.uniform(0.03, 0.1), saturation=1.0)
    if lens < config.blur:
        look = dataclasses.replace(look, defocus=rng.uniform(0.4, 1.2))
    elif lens < config.blur + config.motion:
        # Cars yaw, and bump up and down, more than they roll: mostly along the rows, sometimes across.
        angle = rng.normal(0.0, 0.2) + (np.pi / 2 if rng.random() < 0.3 else 0.0)
        look = dataclasses.replace(look, motion=(rng.uniform(2.0, max(0.022 * height, 3.0)), angle))
    return look


def _night(look: Look, rng: np.random.Generator, mean: float) -> Look:
    """Night as cameras record it: the road in the lamps at a level of 30 to 70, the rest at a third of that."""
    gamma = rng.uniform(1.2, 1.8)
    return dataclasses.replace(
        look,
        gamma=gamma,
        brightness=min(rng.uniform(30, 70) / (255 * (mean / 255) ** gamma), 1.0),
        contrast=1.0,
        balance=_balance(rng.uniform(-0.06, 0.14), 0.0),
        headlights=rng.uniform(0.25, 0.5),
        grain=rng.uniform(2, 7),
    )


def _bounded(factor: float, mean: float) -> float:
    return float(np.clip(factor, min(1.0, DARKEST / max(mean, 1.0)), max(1.0, BRIGHTEST / max(mean, 1.0))))


def _balance(warmth: float, tint: float) -> tuple[float, float, float]:
    return 1 + warmth, 1 + tint, 1 - warmth


def apply_look(image: Tensor, look: Look, rng: np.random.Generator, stage: Stage | None = None) -> Tensor:
    """A picture (3, H, W) uint8 RGB as `look` shows it; the same shape, a new tensor unless nothing changes.

    stage: where the frame of a driving camera lies, for headlights and fog; None for a picture of anything else,
    which gets both evenly. rng: for the grain.
    """
    if look.saturation != 1:
        image = v2.adjust_saturation(image, look.saturation)
    if look.fog > 0:
        image = _veil(image, look.fog, stage)
    image = _look_up(image, _table(look))
    if look.headlights < 1 and stage is not None:
        image = _headlights(image, look.headlights, stage)
    if look.defocus > 0 or look.motion[0] > 1:
        image = _blur(image, look)
    if look.grain > 0:
        image = _grain(image, look.grain, rng)
    return _compressed(image, look.jpeg) if look.jpeg else image


def _table(look: Look) -> NDArray[np.uint8] | None:
    """(3, 256) uint8 level to level of red, green and blue; None where each stays."""
    if (look.gamma, look.brightness, look.contrast, *look.balance) == (1.0,) * 6:
        return None
    levels = (torch.arange(256, dtype=torch.float32) / 255).expand(3, 1, 256)
    levels = v2.adjust_brightness(v2.adjust_gamma(levels, look.gamma), look.brightness)
    # v2's contrast takes the mean of what it is given, here the table's; the picture's is wanted.
    pivot = min(look.pivot / 255 * look.brightness, 1.0)
    levels = ((levels - pivot) * look.contrast + pivot)[:, 0] * torch.tensor(look.balance)[:, None]
    return np.asarray((levels * 255 + 0.5).clamp(0, 255).to(torch.uint8).numpy())


def _look_up(image: Tensor, table: NDArray[np.uint8] | None) -> Tensor:
    if table is None:
        return image
    levels = torch.from_numpy(table)
    planes = [levels[c].index_select(0, image[c].reshape(-1).int()) for c in range(3)]
    return torch.stack(planes).view(image.shape)


def _headlights(image: Tensor, left: float, stage: Stage) -> Tensor:
    """Full light on the road before the car, a share `left` of it far from there."""
    height, width = image.shape[1:]
    rows = (torch.arange(height) + 0.5 - stage.top) / stage.height
    columns = (torch.arange(width) + 0.5 - stage.left) / stage.width
    lamp = torch.exp(-(((rows - 0.72) / 0.24) ** 2))[:, None] * torch.exp(-(((columns - 0.5) / 0.38) ** 2))
    # Of 128, so that the product with a level fits sixteen bits.
    share = ((left + (1 - left) * lamp) * 128).to(torch.int16)
    return ((image.to(torch.int16) * share) >> 7).to(torch.uint8)


def _veil(image: Tensor, depth: float, stage: Stage | None) -> Tensor:
    """Koschmieder's law (light is lost and grey added with distance), the distance taken from the row.

    A road that is flat lies at a distance of one over its rows below the horizon. What stands up from it is nearer
    than its row says, so the distance grows to eight times the nearest and no more.
    """
    air = 205.0
    if stage is None:
        kept = torch.full((image.shape[1],), float(np.exp(-4 * depth)))
    else:
        below = ((torch.arange(image.shape[1]) + 0.5 - stage.top) / stage.height - HORIZON) / (1 - HORIZON)
        kept = torch.exp(-depth / below.clamp(0.125, 1.0))
    kept = kept[:, None]
    return (image * kept + air * (1 - kept)).to(torch.uint8)


def _blur(image: Tensor, look: Look) -> Tensor:
    import cv2

    planes = [np.asarray(p) for p in image.numpy()]
    if look.defocus > 0:
        done = [cv2.GaussianBlur(p, (0, 0), look.defocus) for p in planes]
    else:
        kernel = motion_kernel(*look.motion)
        done = [cv2.filter2D(p, -1, kernel, borderType=cv2.BORDER_REPLICATE) for p in planes]
    return torch.from_numpy(np.stack(done))


def _compressed(image: Tensor, quality: int) -> Tensor:
    """There and back through JPEG."""
    import cv2

    red, green, blue = (p.numpy() for p in image)
    coded = cv2.imencode(".jpg", cv2.merge([blue, green, red]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    blue, green, red = cv2.split(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return torch.from_numpy(np.stack([red, green, blue]))


def motion_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """(K, K) float32 with sum 1: a line of `length` pixels at `angle` radians through the middle, K odd."""
    half = max(int(np.ceil((length - 1) / 2)), 1)
    at = np.linspace(-(length - 1) / 2, (length - 1) / 2, 8 * half + 1)
    x, y = half + at * np.cos(angle), half + at * np.sin(angle)
    kernel = np.zeros((2 * half + 2, 2 * half + 2), np.float32)
    left, top = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):
            share = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
            np.add.at(kernel, (top + dy, left + dx), share.astype(np.float32))
    kernel = kernel[:-1, :-1]
    return np.asarray(kernel / kernel.sum(), np.float32)


def _grain(image: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """Noise of a sensor: its variance grows with the light, and demosaicing leaves more of it grey than coloured."""
    own = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(image.shape, generator=own)
    grey = noise.mean(0, keepdim=True)
    noise.mul_(0.55).add_(grey, alpha=0.9)
    light = image[1:2].float().add_(20).mul_(1 / 148).sqrt_().mul_(sigma)
    return noise.mul_(light).add_(image).add_(0.5).clamp_(0, 255).to(torch.uint8)
