"""Street furniture: trees and lamp posts."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import NEAR_M
from edgetl.roadworld.canvas import PLANT, POLE, Canvas
from edgetl.roadworld.light import Lighting
from edgetl.roadworld.noise import U8
from edgetl.roadworld.scene import Bgr, Mast, Tree

F64 = NDArray[np.float64]

SPRITES = 10
_POST: Bgr = (112, 112, 110)


@lru_cache(maxsize=2 * SPRITES)
def plant_picture(index: int, bush: bool) -> tuple[U8, U8]:
    """A plant (192, 160, 3) lit from the left, with its mask (192, 160)."""
    rng = np.random.default_rng([31, index, int(bush)])
    h, w = 192, 160
    picture, mask = np.zeros((h, w, 3), np.uint8), np.zeros((h, w), np.uint8)
    conifer = index % 5 == 4 and not bush
    base = np.array([[52, 112, 84], [44, 92, 74], [60, 122, 108], [50, 100, 66], [46, 82, 58]][index % 5], float)
    if not bush:
        top = int(h * 0.55)
        trunk = np.array([[w / 2 - 6, h], [w / 2 + 6, h], [w / 2 + 3, top], [w / 2 - 3, top]])
        for target, tone in ((picture, (52, 66, 82)), (mask, 255)):
            cv2.fillConvexPoly(target, trunk.astype(np.int32), tone)
    lumps = rng.uniform(-1, 1, (9, 2)) * (0.5, 0.42)
    for k in range(420 if not bush else 260):
        if conifer:
            v = float(rng.uniform(0, 1)) ** 0.8
            x, y = w / 2 + rng.uniform(-0.42, 0.42) * w * v, h * (0.02 + 0.84 * v)
            radius = 4 + 5 * v
        else:
            lump = lumps[k % 9]
            angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1)) * 0.48
            x = w / 2 + (lump[0] + reach * np.cos(angle)) * w * 0.46
            middle, tall = (0.62, 0.42) if bush else (0.36, 0.4)
            y = h * (middle + (lump[1] + reach * np.sin(angle)) * tall)
            radius = float(rng.uniform(3.5, 9))
        late = k / 420
        side = 1.0 - 0.4 * (x / w - 0.5) - 0.55 * (y / h - 0.4)
        tone = base * (0.5 + 0.5 * late) * side * rng.uniform(0.75, 1.25) + late * np.array([0, 16, 14])
        centre = (int(x * 16), int(y * 16))
        cv2.circle(picture, centre, int(radius * 16), np.clip(tone, 0, 255).tolist(), -1, cv2.LINE_AA, 4)
        cv2.circle(mask, centre, int(radius * 16), 255, -1, cv2.LINE_8, 4)
    if bush:
        mask[int(h * 0.97) :] = 0
    holes = rng.integers(0, [h, w], (160, 2))
    if not bush:
        canopy = holes[holes[:, 0] < h * 0.6]
        mask[canopy[:, 0], canopy[:, 1]] = 0
    return picture, mask


@lru_cache(maxsize=160)
def plant_size(index: int, bush: bool, halved: int, right: bool) -> U8:
    """The plant with its mask as fourth channel, halved this often, lit from the left or from the right."""
    if halved:
        larger = plant_size(index, bush, halved - 1, right)
        size = (larger.shape[1] // 2, larger.shape[0] // 2)
        return np.asarray(cv2.resize(larger, size, interpolation=cv2.INTER_AREA), np.uint8)
    both = np.dstack(plant_picture(index, bush))
    return np.asarray(cv2.flip(both, 1) if right else both, np.uint8)


def paint_tree(canvas: Canvas, tree: Tree, place: F64, lighting: Lighting) -> None:
    """A tree or bush standing at ego `place` (x, y, 0)."""
    uv, depth = canvas.camera.project(np.array([place, place + (0, 0, tree.height_m)]))
    if depth.min() < 1.0:
        return
    high = float(uv[0, 1] - uv[1, 1])
    wide = high * (160 / 192) * (1.5 if tree.bush else 0.92)
    h, w = canvas.owner.shape
    if high < 3 or high > 4 * h or uv[0, 0] + wide / 2 < 0 or uv[0, 0] - wide / 2 > w:
        return
    halved = min(max(int(np.log2(192 / high)), 0), 5)
    picture = plant_size(tree.sprite % SPRITES, tree.bush, halved, bool(lighting.sun[0] > 0))
    x, y, across, up = round(uv[0, 0] - wide / 2), round(uv[1, 1]), max(round(wide), 2), max(round(high), 2)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + across, w), min(y + up, h)
    if x0 >= x1 or y0 >= y1:
        return
    scale_x, scale_y = picture.shape[1] / across, picture.shape[0] / up
    source = np.array([[scale_x, 0, (x0 - x + 0.5) * scale_x - 0.5], [0, scale_y, (y0 - y + 0.5) * scale_y - 0.5]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(picture, source, (x1 - x0, y1 - y0), flags=how, borderMode=cv2.BORDER_REPLICATE)
    solid = (cv2.extractChannel(part, 3) > 110).view(np.uint8)
    gain = lighting.flat(float(place[0]), float(place[1])) * np.array(tree.tint)
    canvas.enter(PLANT, gain, lighting.haze, lighting.clear(float(place[1])))
    canvas.picture(cv2.cvtColor(part, cv2.COLOR_BGRA2BGR), solid, x0, y0)


def paint_post(canvas: Canvas, place: F64, points: list[tuple[float, float]], radius_m: float) -> None:
    """A bent post through (offset to the right, height) points above ego `place`."""
    ego = np.array([place + (x, 0.0, z) for x, z in points])
    uv, depth = canvas.camera.project(ego)
    if depth.min() < NEAR_M * 2:
        return
    scale = canvas.camera.focal_px / depth
    r = np.maximum(radius_m * scale, 0.35)
    count = len(points) - 1
    canvas.capsules(uv[:-1], uv[1:], r[:-1], r[1:] * 0.9, [list(canvas.tone(_POST, 0.9))] * count)
    if r.max() > 1.2:
        edge = np.stack([r * 0.35, np.zeros_like(r)], axis=1)
        bright = [list(canvas.tone(_POST, 1.25))] * count
        canvas.capsules((uv - edge)[:-1], (uv - edge)[1:], r[:-1] * 0.4, r[1:] * 0.35, bright)


def paint_mast(canvas: Canvas, mast: Mast, place: F64, lighting: Lighting) -> None:
    """A lamp post; its lamp glows at night."""
    gain = lighting.flat(float(place[0]), float(place[1]))
    canvas.enter(POLE, gain, lighting.haze, lighting.clear(float(place[1])))
    h = mast.height_m
    bend = mast.arm_m * 0.3
    paint_post(
        canvas,
        place,
        [(0.0, 0.0), (0.0, h - 0.6), (bend, h - 0.1), (mast.arm_m, h)] if mast.lamp else [(0.0, 0.0), (0.0, h)],
        0.085,
    )
    if not mast.lamp:
        return
    uv, depth = canvas.camera.project(
        np.array([place + (mast.arm_m, 0.0, h), place + (mast.arm_m * 0.75, 0.0, h - 0.05)])
    )
    if depth.min() < 1.0:
        return
    scale = canvas.camera.focal_px / float(depth[0])
    burning = lighting.look.glow > 0
    tone = canvas.own_light((190, 232, 255)) if burning else canvas.tone((150, 150, 148))
    canvas.capsule(uv[0], uv[1], 0.11 * scale, 0.09 * scale, tone)
    if burning:
        canvas.glow(uv[0], max(1.5 * scale, 5.0), (120, 200, 255), 0.55 * lighting.look.glow)
