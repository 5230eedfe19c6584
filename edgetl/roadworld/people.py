"""People and cyclists: limbs as capsules between joints in space, so any heading and stride works."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import NEAR_M
from edgetl.roadworld.canvas import Canvas, capsule_outline
from edgetl.roadworld.mesh import turned
from edgetl.roadworld.scene import Actor, Bgr

F64 = NDArray[np.float64]

# Indices into an actor's tones.
TOP, LEGS, SKIN, HAIR, EXTRA, SHOES = range(6)
Limb = tuple[int, int, float, float, Bgr, float]


def paint_person(canvas: Canvas, actor: Actor, place: F64, yaw: float, stride: float) -> None:
    """A person on foot at ego `place` (x, y, z)."""
    joints = _walking(actor, stride)
    limbs: list[Limb] = []
    tones = actor.tones
    for hip, knee, foot, toe in ((1, 3, 5, 7), (2, 4, 6, 8)):
        limbs += [
            (hip, knee, 0.1, 0.075, tones[LEGS], 0.9),
            (knee, foot, 0.075, 0.05, tones[LEGS], 0.84),
            (foot, toe, 0.05, 0.045, tones[SHOES], 1.0),
        ]
    arms: list[Limb] = []
    for shoulder, elbow, hand in ((9, 11, 13), (10, 12, 14)):
        arms += [
            (shoulder, elbow, 0.07, 0.055, tones[TOP], 0.86),
            (elbow, hand, 0.055, 0.045, tones[TOP] if actor.variant % 3 else tones[SKIN], 0.86),
        ]
    _paint(canvas, turned(joints * (actor.size_lwh[2] / 1.75), yaw) + place, limbs, arms, actor, yaw)


def _walking(actor: Actor, stride: float) -> F64:
    """Joints (17, 3) for a height of 1.75 m: neck, hips, knees, feet, toes, shoulders, elbows, hands, head."""
    swing = 0.42 * np.sin(stride) if actor.speed_mps or actor.walk_mps else 0.07
    j = np.zeros((17, 3))
    j[0] = (0.0, 0.0, 1.46)
    for side, (leg, arm) in enumerate(((1, 9), (2, 10))):
        r = 0.09 * (2 * side - 1)
        phase = swing * (1 - 2 * side)
        bend = max(-phase, 0.0) * 0.5
        j[leg] = (0.0, r, 0.92)
        j[leg + 2] = (0.44 * phase + 0.06, r, 0.5)
        j[leg + 4] = (0.9 * phase - bend * 0.3, r, 0.07 + bend * 0.3)
        j[leg + 6] = j[leg + 4] + (0.16, 0.0, -0.03)
        shoulder = 0.2 * (2 * side - 1)
        j[arm] = (0.0, shoulder, 1.4)
        j[arm + 2] = (-0.25 * phase - 0.02, shoulder * 1.2, 1.13)
        j[arm + 4] = (-0.5 * phase + 0.08, shoulder * 1.2, 0.9)
    j[15] = (0.02, 0.0, 1.62)
    j[16] = (-0.15, 0.0, 1.22)
    return j


def foot_points(actor: Actor, stride: float) -> F64:
    """Heels and toes (4, 2) of someone on foot, along the body's axes, in metres."""
    return _walking(actor, stride)[5:9, :2] * (actor.size_lwh[2] / 1.75)


def paint_cyclist(canvas: Canvas, actor: Actor, place: F64, yaw: float, stride: float) -> None:
    """A rider on a bicycle at ego `place`; the label covers both."""
    if place[1] < 1.6:
        return
    _bicycle(canvas, actor, place, yaw)
    joints = np.zeros((17, 3))
    joints[0] = (0.14, 0.0, 1.44)
    for side, (leg, arm) in enumerate(((1, 9), (2, 10))):
        r, turn = 0.1 * (2 * side - 1), stride + np.pi * side
        pedal = np.array([0.02 + 0.17 * np.cos(turn), r, 0.3 + 0.17 * np.sin(turn)])
        joints[leg] = (-0.2, r * 0.9, 0.98)
        joints[leg + 2] = (joints[leg] + pedal) / 2 + (0.2, 0.0, 0.06)
        joints[leg + 4], joints[leg + 6] = pedal, pedal + (0.14, 0.0, -0.02)
        joints[arm] = (0.12, 2.0 * r, 1.38)
        joints[arm + 2] = (0.26, 2.5 * r, 1.16)
        joints[arm + 4] = (0.43, 2.2 * r, 1.04)
    joints[15], joints[16] = (0.24, 0.0, 1.6), (-0.05, 0.0, 1.24)
    tones = actor.tones
    limbs: list[Limb] = []
    for hip, knee, foot, toe in ((1, 3, 5, 7), (2, 4, 6, 8)):
        limbs += [
            (hip, knee, 0.09, 0.07, tones[LEGS], 0.92),
            (knee, foot, 0.065, 0.045, tones[SKIN] if actor.variant % 2 else tones[LEGS], 0.86),
            (foot, toe, 0.05, 0.045, tones[SHOES], 1.0),
        ]
    arms: list[Limb] = []
    for shoulder, elbow, hand in ((9, 11, 13), (10, 12, 14)):
        arms += [(shoulder, elbow, 0.06, 0.05, tones[TOP], 0.88), (elbow, hand, 0.05, 0.04, tones[SKIN], 0.9)]
    _paint(canvas, turned(joints, yaw) + place, limbs, arms, actor, yaw)


def _paint(canvas: Canvas, points: F64, limbs: list[Limb], arms: list[Limb], actor: Actor, yaw: float) -> None:
    """Far arm, far leg, near leg, body, near arm, head, by depth."""
    uv, depth = canvas.camera.project(points)
    if depth.min() < NEAR_M:
        return
    scale = canvas.camera.focal_px / depth

    def draw(part: list[Limb]) -> None:
        a, b = [limb[0] for limb in part], [limb[1] for limb in part]
        ra, rb = np.array([limb[2] for limb in part]), np.array([limb[3] for limb in part])
        tones = [list(canvas.tone(limb[4], limb[5])) for limb in part]
        canvas.capsules(uv[a], uv[b], ra * scale[a], rb * scale[b], tones)

    left_far = depth[9] > depth[10]
    far_arm, near_arm = (arms[:2], arms[2:]) if left_far else (arms[2:], arms[:2])
    far_leg, near_leg = (limbs[:3], limbs[3:]) if depth[1] > depth[2] else (limbs[3:], limbs[:3])
    draw([*far_arm, *far_leg, *near_leg])
    _torso(canvas, uv, scale, actor)
    behind = np.cos(yaw) > 0.2
    if actor.variant % 4 == 1 and actor.shape == "walker" and behind:
        canvas.capsule(
            uv[0] * 0.8 + uv[16] * 0.2,
            uv[16] + (0, 0.14 * scale[16]),
            0.15 * scale[0],
            0.17 * scale[0],
            canvas.tone(actor.tones[EXTRA]),
        )
    draw(near_arm)
    _head(canvas, uv[15], float(scale[15]), actor, yaw)


def _torso(canvas: Canvas, uv: F64, scale: F64, actor: Actor) -> None:
    s = float(scale[0])
    rings = [
        capsule_outline(uv[9 + k], uv[1 + k], 0.085 * s, (0.13 if actor.variant % 5 == 0 else 0.1) * s) for k in (0, 1)
    ]
    spine = capsule_outline(uv[0], (uv[1] + uv[2]) / 2, 0.12 * s, 0.14 * s)
    hull = cv2.convexHull(np.concatenate([*rings, spine]).astype(np.float32))[:, 0].astype(np.float64)
    canvas.polygon(hull, canvas.tone(actor.tones[TOP]))
    if s > 26:
        middle = hull.mean(axis=0)
        lit = middle + (hull - middle) * (0.5, 0.86) + (0.05 * s, -0.02 * s)
        canvas.polygon(lit, canvas.tone(actor.tones[TOP], 1.12), own=False)
    if actor.variant % 5 == 0 and actor.shape == "walker":  # a coat or a skirt
        knees = (uv[3] + uv[4]) / 2
        hips = (uv[1] + uv[2]) / 2
        hem = hips + (knees - hips) * 0.75
        wide = 0.2 * s
        skirt = np.array([hips + (-0.8 * wide, 0), hips + (0.8 * wide, 0), hem + (wide, 0), hem - (wide, 0)])
        canvas.polygon(skirt, canvas.tone(actor.tones[TOP], 0.92))


def _head(canvas: Canvas, at: F64, s: float, actor: Actor, yaw: float) -> None:
    away = float(np.cos(yaw))
    side = float(np.sin(yaw))
    hair = canvas.tone(actor.tones[HAIR])
    canvas.capsule(at + (0, 0.1 * s), at + (0, 0.2 * s), 0.055 * s, 0.06 * s, canvas.tone(actor.tones[SKIN], 0.85))
    canvas.capsule(at + (0, -0.03 * s), at + (0, 0.04 * s), 0.112 * s, 0.095 * s, hair)
    if away < 0.5:
        face = at + (0.035 * side * s, 0.03 * s)
        canvas.capsule(face, face + (0, 0.045 * s), 0.088 * s, 0.07 * s, canvas.tone(actor.tones[SKIN]))
    if actor.shape == "rider":
        canvas.capsule(
            at + (-0.05 * s, -0.06 * s), at + (0.05 * s, -0.06 * s), 0.1 * s, 0.1 * s, canvas.tone(actor.tones[EXTRA])
        )


def _bicycle(canvas: Canvas, actor: Actor, place: F64, yaw: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    scale = canvas.camera.pixels_per_metre(float(place[1]))
    thick = max(round(0.05 * scale), 1)
    tube = 0.026 * scale
    black = canvas.tone((34, 33, 32))
    for l in (-0.53, 0.53):  # noqa: E741
        ring = np.stack([l + 0.34 * np.cos(turn), np.zeros_like(turn), 0.34 + 0.34 * np.sin(turn)], axis=1)
        uv, _ = canvas.camera.project(turned(ring, yaw) + place)
        canvas.ring(uv, thick, black)
        hub, _ = canvas.camera.project(turned(np.array([[l, 0.0, 0.05], [l, 0.0, 0.63]]), yaw) + place)
        canvas.capsule(hub[0], hub[1], 0.022 * scale, 0.022 * scale, black)
    frame = np.array(
        [[-0.53, 0, 0.34], [0.0, 0, 0.3], [-0.16, 0, 0.88], [0.38, 0, 0.84], [0.53, 0, 0.34], [0.4, 0, 1.02],
         [0.42, -0.24, 1.04], [0.42, 0.24, 1.04], [-0.22, 0, 0.96]]
    )  # fmt: skip
    uv, _ = canvas.camera.project(turned(frame, yaw) + place)
    paint = canvas.tone(actor.tones[EXTRA])
    a, b, thin = [0, 1, 2, 1, 3, 0, 3], [1, 2, 3, 3, 4, 2, 5], np.full(7, tube)
    canvas.capsules(uv[a], uv[b], thin, thin, [list(paint)] * 7)
    canvas.capsule(uv[6], uv[7], tube, tube, black)
    canvas.capsule(uv[2], uv[8], tube * 2, tube * 2.4, black)
