"""One picture of a scene: sky, ground, everything upright from far to near, then the lens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.buildings import paint_building
from edgetl.roadworld.canvas import Canvas
from edgetl.roadworld.contact import Stand, hanging, stand_of
from edgetl.roadworld.decals import Mirror, Shadows, footprint, paint_crosswalks
from edgetl.roadworld.finish import drops_on_lens, rain_in_air, sensor
from edgetl.roadworld.ground import Ground
from edgetl.roadworld.labels import Ledger, Rendered
from edgetl.roadworld.light import Lighting
from edgetl.roadworld.mesh import HEAD, INDICATOR, TAIL, paint_mesh, palette
from edgetl.roadworld.noise import U8
from edgetl.roadworld.order import painting_order
from edgetl.roadworld.people import paint_cyclist, paint_person
from edgetl.roadworld.scene import (
    BUS,
    CAR,
    CYCLIST,
    LIGHT,
    PERSON,
    SIGN,
    TRUCK,
    Actor,
    Building,
    Mast,
    Scene,
    Sign,
    TrafficLight,
    Tree,
)  # fmt: skip
from edgetl.roadworld.signals import paint_light, paint_light_post, paint_sign, paint_sign_post
from edgetl.roadworld.sky import Sky
from edgetl.roadworld.street import paint_mast, paint_tree
from edgetl.roadworld.strip import MARKING, ROAD, SIDEWALK, TERRAIN
from edgetl.roadworld.vehicles import body

F64 = NDArray[np.float64]


_HARD = np.full(256, 255, np.uint8)
"""How well a kind of ground mirrors when wet."""
_HARD[[TERRAIN, SIDEWALK]] = 0, 150


@dataclass(frozen=True)
class _Item:
    """Something to paint: its span along the road, its place across, and how."""

    s0: float
    s1: float
    d: float
    paint: Callable[[], None]


class Frame:
    """One picture in the making."""

    def __init__(self, scene: Scene, sky: Sky, ground: Ground, time_s: float) -> None:
        self.scene, self.sky, self.ground = scene, sky, ground
        self.time_s = time_s
        self.ego_s, self.pose = scene.ego_at(time_s)
        self.rng = np.random.default_rng([scene.seed, round(time_s * 1e4)])
        sun = np.array(scene.look.sun)
        c, s = np.cos(self.pose.heading_rad), np.sin(self.pose.heading_rad)
        sun_ego = np.array([sun[0] * c - sun[1] * s, sun[0] * s + sun[1] * c, sun[2]])
        self.light = Lighting(scene.look, sun_ego, self._burning())
        self.ledger = Ledger()
        self.items: list[_Item] = []

    def _burning(self) -> F64:
        scene = self.scene
        lamps = [m for m in scene.masts if m.lamp and -15 < m.s - self.ego_s < 90]
        if scene.domain != "night" or not lamps:
            return np.zeros((0, 2))
        s, d = np.array([m.s for m in lamps]), np.array([m.d + m.arm_m for m in lamps])
        return np.stack(self.pose.to_ego(*scene.path.to_world(s, d)), axis=1)

    def place(self, s: float, d: float) -> tuple[F64, float]:
        """Ego position (x, y, 0) of road coordinates, and the road's heading there relative to the ego."""
        pose = self.scene.path.pose(s, d)
        return np.array([*self.pose.point_to_ego(pose.x_m, pose.y_m), 0.0]), pose.heading_rad - self.pose.heading_rad

    def in_view(self, place: F64, radius_m: float) -> bool:
        """Whether something this wide could be in the picture."""
        camera = self.scene.camera
        reach = camera.cx / camera.focal_px * max(float(place[1]) + radius_m, 0.0) + radius_m * 1.3
        return bool(abs(float(place[0])) < reach)

    def render(self) -> Rendered:
        """Sky, ground with what lies on it, then everything upright from far to near, then the lens."""
        scene, camera = self.scene, self.scene.camera
        h, w = camera.size_hw
        top = self.ground.top
        image = np.empty((h, w, 3), np.uint8)
        sky = self.sky.window(self.pose.heading_rad)
        rows = min(len(sky), h)
        image[:rows] = sky[:rows]
        image[rows:top] = scene.look.haze_bgr
        self.canvas = Canvas(image, camera)
        self.shadows = Shadows(camera, self.light, top)
        self.mirror = Mirror(camera, top) if scene.look.wet else None
        self._collect()
        kind = np.zeros((h, w), np.uint8)
        if top < h:
            self._paint_ground(image[top:], kind[top:])
        for k in painting_order([(i.s0, i.s1, abs(i.d - scene.ego_d)) for i in self.items]):
            self.items[k].paint()
        objects, owners, upright = self.ledger.finish(self.canvas.owner)
        if scene.domain == "rain":
            rain_in_air(image, self.rng, 0.35 + 0.5 * float(np.mean(scene.look.ambient)))
            drops_on_lens(image, np.random.default_rng(scene.seed))
        classes: U8 = np.maximum(upright, kind)  # whatever is upright has the higher number
        return Rendered(
            image=sensor(image, scene.look, self.rng), objects=objects,
            drivable=((classes == ROAD) | (classes == MARKING)).view(np.uint8),
            lanes=(classes == MARKING).view(np.uint8), classes=classes, owners=owners, matrix=camera.matrix.copy(),
            height_m=camera.height_m, pitch_rad=camera.pitch_rad, pose=self.pose, domain=scene.domain,
            scene_id=scene.scene_id, time_s=self.time_s,
        )  # fmt: skip

    def _paint_ground(self, out: U8, kind: U8) -> None:
        scene = self.scene
        colour, kinds = self.ground.look_up(self.ego_s, self.pose)
        paint_crosswalks(scene, self.pose, self.ego_s, colour, kinds, self.ground.top)
        kind[:] = kinds
        out[:] = self.ground.shine(colour, self.shadows.finish(), self.light)
        if self.mirror:
            self.mirror.lay(out, cv2.LUT(kinds, _HARD), np.array(scene.look.sky_low) * 0.9, scene.look.wet)

    def _collect(self) -> None:
        """Gather what is in reach, with its shadows and mirror images."""
        scene = self.scene
        for building in scene.buildings:
            if building.s1 > self.ego_s - 2 and building.s0 < self.ego_s + 130:
                self._add_building(building)
        for tree in scene.trees:
            if 2 < tree.s - self.ego_s < 120:
                self._add_tree(tree)
        for mast in scene.masts:
            if 2 < mast.s - self.ego_s < 100:
                self._add_mast(mast)
        for light in scene.lights:
            if 2 < light.s - self.ego_s < scene.draw_m:
                self._add_light(light)
        for sign in scene.signs:
            if 2 < sign.s - self.ego_s < scene.draw_m:
                self._add_sign(sign)
        for actor in scene.actors:
            s, d = actor.at(self.time_s)
            if -actor.size_lwh[0] < s - self.ego_s < scene.draw_m:
                self._add_actor(actor, s, d)

    def _add_building(self, b: Building) -> None:
        away = b.depth_m if b.d > 0 else -b.depth_m
        corners = ((b.s0, b.d), (b.s1, b.d), (b.s1, b.d + away), (b.s0, b.d + away))
        base = np.array([self.place(s, d)[0][:2] for s, d in corners])
        self.shadows.prism(base, b.height_m)
        if self.mirror:
            tone = np.array(b.wall) * self.light.flat(float(base[0, 0]), float(base[0, 1])) * 0.6
            self.mirror.silhouette(base, b.height_m, tone)
        self.items.append(_Item(b.s0, b.s1, b.d, lambda: paint_building(self.canvas, b, base, self.light)))

    def _add_tree(self, tree: Tree) -> None:
        place, _ = self.place(tree.s, tree.d)
        if place[1] < 70:
            self.shadows.crown(place, tree.height_m)
        if self.in_view(place, tree.height_m / 2):
            self.items.append(
                _Item(tree.s, tree.s + 0.2, tree.d, lambda: paint_tree(self.canvas, tree, place, self.light))
            )

    def _add_mast(self, mast: Mast) -> None:
        place, _ = self.place(mast.s, mast.d)
        self.shadows.prism(place[:2] + np.array([[-0.08, 0.0], [0.08, 0.0]]), mast.height_m)
        if self.mirror and mast.lamp and self.scene.look.glow:
            self.mirror.streak(
                place + (mast.arm_m, 0, 0), mast.height_m, 0.2, np.array([105.0, 160, 190]) * self.scene.look.glow
            )
        if self.in_view(place, abs(mast.arm_m) + 1.0):
            self.items.append(
                _Item(mast.s, mast.s + 0.1, mast.d, lambda: paint_mast(self.canvas, mast, place, self.light))
            )

    def _add_light(self, light: TrafficLight) -> None:
        place, turn = self.place(light.s, light.d)

        def paint() -> None:
            paint_light_post(self.canvas, light, place, self.light)
            stand = hanging(place, turn, light.height_m)
            slot = self._begin(light.object_id, LIGHT, place + (0, 0, light.z_m), stand)
            paint_light(self.canvas, light, place, light.yaw_rad - turn, self.light)
            self.ledger.close(slot, self.canvas)

        if self.mirror:
            tone = {"red": (40, 40, 230), "amber": (30, 160, 230), "green": (130, 220, 60)}[light.lit]
            self.mirror.streak(place, light.z_m, 0.25, np.array(tone, float))
        self.items.append(_Item(light.s, light.s + 0.2, light.d, paint))

    def _add_sign(self, sign: Sign) -> None:
        place, turn = self.place(sign.s, sign.d)
        self.shadows.prism(place[:2] + np.array([[-0.05, 0.0], [0.05, 0.0]]), sign.z_m + 0.3)

        def paint() -> None:
            paint_sign_post(self.canvas, sign, place, self.light)
            stand = hanging(place, turn, sign.size_m)
            slot = self._begin(sign.object_id, SIGN, place + (0, 0, sign.z_m), stand, boost=1.25)
            paint_sign(self.canvas, sign, place, sign.yaw_rad - turn)
            self.ledger.close(slot, self.canvas)

        self.items.append(_Item(sign.s, sign.s + 0.1, sign.d, paint))

    def _add_actor(self, actor: Actor, s: float, d: float) -> None:
        place, turn = self.place(s, d)
        if not self.in_view(place, actor.size_lwh[0] / 2 + 4.0):
            return
        yaw = turn + actor.yaw_rad
        length, width, height = actor.size_lwh
        base = footprint(place, yaw, length, width)
        vehicle = actor.label in (CAR, TRUCK, BUS)
        self.shadows.prism(
            footprint(place, yaw, length, width) if vehicle else footprint(place, yaw, 0.3, 0.4), height * 0.92
        )
        self.shadows.contact(base if vehicle else footprint(place, yaw, min(length, 1.0) * 0.6, 0.3))
        if self.mirror:
            self._mirror_actor(actor, place, yaw, base)
        span = (abs(np.cos(actor.yaw_rad)) * length + abs(np.sin(actor.yaw_rad)) * width) / 2
        self.items.append(_Item(s - span, s + span, d, lambda: self._paint_actor(actor, place, yaw)))

    def _mirror_actor(self, actor: Actor, place: F64, yaw: float, base: F64) -> None:
        assert self.mirror is not None
        tone = np.array(actor.tones[0]) * self.light.flat(float(place[0]), float(place[1])) * 0.55
        self.mirror.silhouette(base, actor.size_lwh[2] * 0.9, tone)
        if actor.label in (CAR, TRUCK, BUS) and self.scene.look.glow:
            red = np.cos(yaw) > 0
            side = np.array([np.cos(yaw), -np.sin(yaw), 0.0]) * actor.size_lwh[1] * 0.38
            end = np.array([np.sin(yaw), np.cos(yaw), 0.0]) * actor.size_lwh[0] / 2
            colour = np.array([50.0, 40, 220]) if red else np.array([225.0, 238, 240])
            for k in (-1, 1):
                self.mirror.streak(place + k * side + (-end if red else end), 0.8, 0.16, colour)

    def _paint_actor(self, actor: Actor, place: F64, yaw: float) -> None:
        stride = actor.stride(self.time_s)
        slot = self._begin(actor.object_id, actor.label, place, stand_of(actor, place, yaw, stride))
        if actor.label == PERSON:
            paint_person(self.canvas, actor, place, yaw, stride)
        elif actor.label == CYCLIST:
            paint_cyclist(self.canvas, actor, place, yaw, stride)
        else:
            self._paint_vehicle(slot, actor, place, yaw)
        self.ledger.close(slot, self.canvas)

    def _paint_vehicle(self, slot: int, actor: Actor, place: F64, yaw: float) -> None:
        glow = self.scene.look.glow
        parked = actor.label == CAR and abs(actor.d) > max(self.scene.road.right_m, -self.scene.road.left_m)
        on = glow if not parked else 0.0
        emitted = np.zeros((14, 3))
        emitted[TAIL] = np.array([40.0, 32.0, 235.0]) * (max(0.62 * on, 0.85 * actor.braking) if not parked else 0)
        emitted[HEAD] = np.array([240.0, 248.0, 250.0]) * on
        emitted[INDICATOR] = np.array([10.0, 40.0, 90.0]) * on
        ambient, directed = self.light.at(float(place[0]), float(place[1]))
        canvas = self.canvas
        canvas.enter(slot, np.ones(3), self.light.haze, self.light.clear(float(np.hypot(place[0], place[1]))))
        colours = palette(actor.tones[0], actor.tones[1])
        paint_mesh(
            canvas, body(actor.shape, actor.variant), place, yaw, colours, emitted, self.light.sun, (ambient, directed)
        )
        if on or actor.braking:
            self._lamps(actor, place, yaw, on, parked=parked)

    def _lamps(self, actor: Actor, place: F64, yaw: float, on: float, *, parked: bool) -> None:
        """The glow around head and tail lamps."""
        if parked or place[1] < 3:
            return
        length, width, height = actor.size_lwh
        ahead = np.cos(yaw) < -0.3
        behind = np.cos(yaw) > 0.3
        if not (ahead or behind):
            return
        forward = np.array([np.sin(yaw), np.cos(yaw), 0.0]) * (length / 2) * (1 if ahead else -1)
        side = np.array([np.cos(yaw), -np.sin(yaw), 0.0]) * width * 0.4
        z = 0.68 if ahead else (0.62 * height * 0.75 if actor.label == CAR else 0.85)
        for k in (-1, 1):
            uv, depth = self.canvas.camera.project((place + forward + k * side + (0, 0, z))[None])
            if depth[0] < 1:
                continue
            scale = self.canvas.camera.pixels_per_metre(float(depth[0]))
            if ahead and on:
                self.canvas.glow(uv[0], max(0.75 * scale, 3.0) * (0.5 + on), (205, 232, 250), 0.9 * on)
            elif behind:
                strength = 0.45 * on + 0.25 * actor.braking
                self.canvas.glow(uv[0], max(0.4 * scale, 2.0), (36, 30, 255), strength)

    def _begin(self, object_id: int, label: int, place: F64, stand: Stand, *, boost: float = 1.0) -> int:
        """Enter the canvas for a labelled object; returns its slot in the owner buffer."""
        distance = float(np.hypot(place[0], place[1]))
        slot = self.ledger.open(object_id, label, distance, stand)
        gain = self.light.flat(float(place[0]), float(place[1])) * boost
        self.canvas.enter(slot, gain, self.light.haze, self.light.clear(distance))
        return slot
