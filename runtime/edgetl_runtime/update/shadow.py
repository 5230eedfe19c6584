"""A new bundle beside the old one on live frames: do they agree, is it fast enough, does it fail."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from edgetl_runtime.capture import Capture, Nothing
from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.ledger import Histogram
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.session import domain_monitor
from edgetl_runtime.update.agreement import Agreement

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.result import Frame, Result

SHARE = 0.25
"""Of the time of one core; both networks together work no more, at the lowest priority."""
FIRST_FRAME_S = 30.0
"""How long it waits for the first frame; the run's time counts from there."""
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Gates:
    """What the new bundle must hold. frames: compared at least. boxes, masks, labels: agreement, 0 to 1. slower: its
    p50 over the old one's at most; its p99 over the old one's may be twice that. odd: by how much the share of frames
    that it finds untypical of its training may lie above the old one's. The figures are a first guess: a bundle that
    was trained to say something else has to be given others. Raises InputError for figures that nothing could hold, or
    that everything would.
    """

    frames: int = 20
    boxes: float = 0.5
    masks: float = 0.8
    labels: float = 0.8
    slower: float = 1.5
    odd: float = 0.2

    def __post_init__(self) -> None:
        for name in ("boxes", "masks", "labels", "odd"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"the gate for {name} is a share from 0 to 1, found {getattr(self, name):g}")
        if not 0 < self.slower < math.inf:
            raise InputError(f"the gate for slower is how many times, above 0, found {self.slower:g}")


@dataclass
class Side:
    """One of the two: what it says, how long it takes, how often it fails, how odd it finds the frames."""

    bundle: Bundle
    engine: Engine
    failures: int = 0
    frames: int = 0
    odd: int = 0
    shift: float = 0.0
    times: Histogram = field(default_factory=Histogram)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(self.bundle, self.engine)
        self._domain = domain_monitor(self.bundle)

    def run(self, frame: Frame) -> Result | None:
        """What it says; None where it fails, which is counted."""
        start = time.perf_counter()
        try:
            result = self.pipeline.process(frame)
        except EngineError:
            self.failures += 1
            return None
        self.times.add((time.perf_counter() - start) * 1e3)
        self.frames += 1
        if self._domain is not None and result.embedding is not None:
            score = self._domain.score(result.embedding[None])
            self.odd += not score.typical
            self.shift += score.quantile
        return result

    def as_json(self) -> dict[str, object]:
        """Plain values. shift, odd: null without statistics of the training's domain."""
        figures = self.times.snapshot()
        known = self._domain is not None and self.frames > 0
        return {
            "frames": self.frames,
            "failures": self.failures,
            "p50_ms": figures.get("p50_ms"),
            "p99_ms": figures.get("p99_ms"),
            "shift": round(self.shift / self.frames, 4) if known else None,
            "odd": round(self.odd / self.frames, 4) if known else None,
        }


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """compared: frames that both gave a result for. share: of the time that both worked. agreement: by head."""

    compared: int
    seconds: float
    share: float
    agreement: dict[str, float]
    old: dict[str, object]
    new: dict[str, object]
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def shadow(
    old: Side,
    new: Side,
    camera: Camera,
    *,
    seconds: float,
    share: float = SHARE,
    gates: Gates | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ShadowReport:
    """Run both on the newest frames for so long, or to a file's end; the camera is closed then.

    After each frame it rests until the work was no more than `share` of the time. Which of both runs first takes turns.
    Raises InputError for a share outside 0.01 to 1, CameraError.
    """
    if not 0.01 <= share <= 1 or not seconds > 0:
        raise InputError(f"a shadow run takes 0.01 to 1 of a core, for some seconds, found {share:g} and {seconds:g} s")
    agreement, compared, busy_s = Agreement(), 0, 0.0
    start_s = None
    opened_s = clock()
    with Capture(camera) as capture:
        while clock() - opened_s < FIRST_FRAME_S if start_s is None else clock() - start_s < seconds:
            try:
                taken = capture.get(_WAIT_S)
            except Nothing:
                continue
            if taken is None:
                break
            began_s = clock()
            start_s = began_s if start_s is None else start_s
            was, now = _both(old, new, taken.frame, swapped=compared % 2 == 1)
            del taken
            if was is not None and now is not None:
                compared += 1
                heads = old.bundle.manifest.heads, new.bundle.manifest.heads
                agreement.add(heads[0], was.outputs, heads[1], now.outputs)
            busy_s += clock() - began_s
            sleep(max(0.0, min(busy_s / share, seconds) - (clock() - start_s)))
    spent_s = max(clock() - (opened_s if start_s is None else start_s), 1e-9)
    report = ShadowReport(
        compared, round(spent_s, 3), round(busy_s / spent_s, 4), agreement.shares(), old.as_json(), new.as_json()
    )
    found = tuple(_problems(report, new.bundle, gates or Gates()))
    return ShadowReport(**(asdict(report) | {"problems": found}))


def _both(old: Side, new: Side, frame: Frame, *, swapped: bool) -> tuple[Result | None, Result | None]:
    if swapped:
        now = new.run(frame)
        return old.run(frame), now
    was = old.run(frame)
    return was, new.run(frame)


def _problems(report: ShadowReport, bundle: Bundle, gates: Gates) -> list[str]:
    """What does not hold, a line each."""
    found = []
    if report.compared < gates.frames:
        found.append(f"{report.compared} frames were compared, at least {gates.frames} are needed")
    if report.new["failures"]:
        found.append(f"the new bundle failed on {report.new['failures']} frames")
    least = {"DetectHead": gates.boxes, "SegmentHead": gates.masks, "ClassifyHead": gates.labels}
    kinds = {head.name: type(head).__name__ for head in bundle.manifest.heads}
    for name, agreed in report.agreement.items():
        if agreed < least[kinds[name]]:
            found.append(f"{name} agrees in {agreed:.0%}, at least {least[kinds[name]]:.0%} are needed")
    for figure, times in (("p50_ms", 1.0), ("p99_ms", 2.0)):
        before, now = report.old[figure], report.new[figure]
        if isinstance(before, float) and isinstance(now, float) and now > before * gates.slower * times:
            found.append(f"its {figure[:3]} is {now:.1f} ms, that of the old one {before:.1f} ms")
    before, now = report.old["odd"], report.new["odd"]
    if isinstance(before, float) and isinstance(now, float) and now - before > gates.odd:
        found.append(f"it finds {now:.0%} of the frames untypical, the old one {before:.0%}")
    return found
