"""Faults on demand: a camera and an engine that fail as real ones do, at frames that are chosen beforehand.

`stall=2@100` is a stall of two seconds at frame 100, `nan=3@50/400` three outputs that are not finite at frame 50 and
then every 400 frames. What each fault does is in KINDS.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.cameras import interrupt
from edgetl_runtime.errors import CameraError, EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.result import Frame
    from edgetl_runtime.spec import Precision, TensorSpec

KINDS: Mapping[str, tuple[float, str]] = {
    "stall": (1.0, "seconds without a frame"),
    "disconnect": (1.0, "seconds in which the camera is gone and can't be opened"),
    "freeze": (90.0, "frames that all show the same picture"),
    "black": (30.0, "frames that are black"),
    "duplicate": (1.0, "frames that come twice"),
    "disorder": (1.0, "frames that come after the next one"),
    "clock": (5.0, "seconds by which stamps are ahead of the clock from then on, until the next such fault ends it"),
    "resize": (10.0, "frames of half the size"),
    "engine": (1.0, "runs of the engine that fail"),
    "nan": (1.0, "runs of the engine that give NaN"),
}
"""Each fault: how long it is where nothing is said, and what the number counts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: of KINDS. amount: as KINDS counts it. at: the first frame, from 0; every: again after so many, 0 never."""

    kind: str
    amount: float
    at: int
    every: int = 0

    def starts(self, number: int) -> bool:
        """Whether it begins at this frame."""
        past = number - self.at
        return past == 0 or (past > 0 and self.every > 0 and past % self.every == 0)


_FORM = re.compile(
    r"(?P<kind>[a-z]+)(=(?P<amount>\d{1,9}(\.\d{1,9})?))?@(?P<at>\d{1,9})(/(?P<every>[1-9]\d{0,8}))?", re.ASCII
)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults from `kind[=amount]@frame[/every]`, with commas between. Raises InputError that lists the kinds."""
    faults = []
    for part in text.split(","):
        match = _FORM.fullmatch(part.strip())
        if match is None or match["kind"] not in KINDS:
            raise InputError(
                f"expected faults like stall=2@100 or nan@50/400, found {part.strip()[:80]!r}",
                remedy=f"kinds: {', '.join(KINDS)}",
            )
        amount = float(match["amount"]) if match["amount"] else KINDS[match["kind"]][0]
        faults.append(Fault(match["kind"], amount, int(match["at"]), int(match["every"] or 0)))
    return tuple(faults)


class Injector:
    """Makes cameras and engines fail as planned. It counts frames across reopened cameras, so a plan is kept once.

    injected: how often each kind was brought about.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._camera = [f for f in faults if f.kind not in ("engine", "nan")]
        self._engine = [f for f in faults if f.kind in ("engine", "nan")]
        self.injected: dict[str, int] = {f.kind: 0 for f in faults}
        self.frames = self.runs = 0
        self.gone_until_s = 0.0

    def camera(self, camera: Camera) -> FaultyCamera:
        """The camera with the plan's faults. Raises CameraError while a planned disconnection lasts."""
        if (left_s := self.gone_until_s - time.monotonic()) > 0:
            camera.close()
            raise CameraError(f"{camera.camera_id} is gone for {left_s:.1f} s more (injected)")
        return FaultyCamera(camera, self)

    def engine(self, engine: Engine) -> FaultyEngine:
        """The engine with the plan's faults."""
        return FaultyEngine(engine, self)

    def begin(self, number: int, *, engine: bool) -> list[Fault]:
        """The faults that begin now; counts them."""
        now = [f for f in (self._engine if engine else self._camera) if f.starts(number)]
        for fault in now:
            self.injected[fault.kind] += 1
        return now


class FaultyCamera:
    """A camera whose frames meet the faults of a plan; everything else is the camera's own."""

    def __init__(self, camera: Camera, injector: Injector) -> None:
        self._inner, self._injector = camera, injector
        self.camera_id, self.live, self.fps = camera.camera_id, camera.live, camera.fps
        self.notes = camera.notes
        self._closed = threading.Event()
        self._left: dict[str, int] = {}
        self._waiting: list[Frame] = []
        self._frozen: NDArray[np.uint8] | None = None
        self._offset_ns = 0

    @property
    def failed(self) -> int:
        """Frames that could not be decoded."""
        return self._inner.failed

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._inner.size_hw

    @property
    def frame_count(self) -> int | None:
        """How many frames the source has."""
        return self._inner.frame_count

    def read(self) -> Frame | None:
        """The next frame, as the plan wants it. Raises CameraError where the plan disconnects."""
        if self._waiting:
            return self._waiting.pop()
        frame = self._inner.read()
        if frame is None:
            return None
        number, self._injector.frames = self._injector.frames, self._injector.frames + 1
        for fault in self._injector.begin(number, engine=False):
            self._start(fault)
        return self._changed(frame)

    def _start(self, fault: Fault) -> None:
        if fault.kind == "stall":
            self._closed.wait(fault.amount)
        elif fault.kind == "disconnect":
            self._injector.gone_until_s = time.monotonic() + fault.amount
            raise CameraError(f"{self.camera_id} was disconnected (injected)")
        elif fault.kind == "clock":
            self._offset_ns = 0 if self._offset_ns else int(fault.amount * 1e9)
        else:
            self._left[fault.kind] = int(fault.amount)

    def _changed(self, frame: Frame) -> Frame | None:
        if self._offset_ns:
            frame = dataclasses.replace(frame, t_capture_ns=frame.t_capture_ns + self._offset_ns)
        image = frame.image
        if self._take("freeze"):
            self._frozen = image.copy() if self._frozen is None else self._frozen
            image = self._frozen
        else:
            self._frozen = None
        if self._take("black"):
            image = np.zeros_like(image)
        if self._take("resize"):
            image = np.ascontiguousarray(image[::2, ::2])
        if image is not frame.image:
            frame = dataclasses.replace(frame, image=image)
        if self._take("duplicate"):
            self._waiting.append(frame)
        if self._take("disorder") and (following := self._inner.read()) is not None:
            self._injector.frames += 1
            self._waiting.append(frame)
            return following
        return frame

    def _take(self, kind: str) -> bool:
        left = self._left.get(kind, 0)
        self._left[kind] = max(left - 1, 0)
        return left > 0

    def interrupt(self) -> None:
        """A stall ends at once, and so does what the camera itself waits for; any thread may call this."""
        self._closed.set()
        interrupt(self._inner)

    def close(self) -> None:
        """End a stall and close the camera."""
        self.interrupt()
        self._inner.close()


class FaultyEngine:
    """An engine whose runs meet the faults of a plan."""

    def __init__(self, engine: Engine, injector: Injector) -> None:
        self._inner, self._injector = engine, injector
        self.name = engine.name
        self.precision: Precision = engine.precision
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self._left = {"engine": 0, "nan": 0}

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Run, or fail, or give NaN in every output of floats."""
        number, self._injector.runs = self._injector.runs, self._injector.runs + 1
        for fault in self._injector.begin(number, engine=True):
            self._left[fault.kind] = int(fault.amount)
        if self._left["engine"] > 0:
            self._left["engine"] -= 1
            raise EngineError(f"{self.name} failed (injected)")
        outputs = self._inner.infer(inputs)
        if self._left["nan"] == 0:
            return outputs
        self._left["nan"] -= 1
        return {k: np.full_like(v, np.nan) if v.dtype.kind == "f" else v for k, v in outputs.items()}

    def close(self) -> None:
        """Free the network."""
        self._inner.close()
