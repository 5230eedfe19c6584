"""One frame to one result: letterbox, infer once, decode every head, keep track of objects, place them on the road."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.decode import decoder_of
from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.geometry.placing import Placing
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.result import MOST_DEADLINE_MS, Result
from edgetl_runtime.spec import EMBEDDING, DetectHead, SegmentHead, at_threshold
from edgetl_runtime.stuck import Answers
from edgetl_runtime.track import Tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.result import Frame, ResultState
    from edgetl_runtime.spec import Head


class NotFinite(EngineError):
    """The network gave NaN or infinity where it says how sure it is, or for a box that it is sure of."""


def check_deadline(deadline_ms: float) -> None:
    """Raises InputError for a deadline that is none; 0 is no deadline."""
    if not 0 <= deadline_ms <= MOST_DEADLINE_MS:
        raise InputError(f"a deadline is from 0 to {MOST_DEADLINE_MS:g} ms, found {deadline_ms:g}")


class Pipeline:
    """One frame to one result: letterbox, infer once, decode every head. Buffers are allocated here, once.

    threshold replaces every label's in every head. deadline_ms marks results that are older at publish as late; 0 is
    none. track: boxes carry the number of their object; frames have to come in order then. letterbox: one that
    pipelines of the same camera share, its own where None. calibration: of the camera that every frame is from; boxes
    carry their places then, see edgetl_runtime.geometry. Raises InputError for a threshold outside 0 to 1, a deadline
    that is none, or where there are no boxes to track or to place.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        threshold: float | None = None,
        deadline_ms: float = 0.0,
        track: bool = False,
        letterbox: Letterbox | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"the threshold must be from 0 to 1, found {threshold}")
        check_deadline(deadline_ms)
        manifest = bundle.manifest
        self.deadline_ms = deadline_ms
        self.bundle_name = manifest.name
        self._heads = manifest.heads
        if threshold is not None:
            self._heads = tuple(at_threshold(h, threshold) for h in manifest.heads)
        self._tracking = Tracking(self._heads) if track else None
        if self._tracking is not None:
            self._heads = self._tracking.decoded
        self._decoders = [(head.name, decoder_of(head)) for head in self._heads]
        self.calibration = calibration
        self.placing = None
        if calibration is not None:
            self.placing = Placing(calibration, manifest.heads, network_hw=manifest.preprocess.size_hw)
        self._embedding = manifest.domain.output if manifest.domain else EMBEDDING
        self._letterbox = letterbox or Letterbox(manifest.preprocess)
        self._inputs = {manifest.inputs[0].name: self._letterbox.tensor}
        self._sureness = [name for head in self._heads for name in _sureness(head)]
        self._boxed = [(h, np.array(h.thresholds, np.float32)) for h in self._heads if isinstance(h, DetectHead)]
        answers = [name for head, _ in self._boxed for name in head.outputs[:2]]
        self._answers = Answers([*answers, self._embedding])
        self.exchange(engine)

    def exchange(self, engine: Engine) -> None:
        """Use this engine from now on; the one before is the caller's to close."""
        engine.infer(self._inputs)  # the first run of an engine is slow, and none of a frame's business
        self.engine = engine

    def process(self, frame: Frame, *, dropped_before: int = 0, when_read: Callable[[], None] | None = None) -> Result:
        """What the heads say of one frame, stamped.

        when_read: called once the frame is in the network's input, before the engine runs.
        Raises EngineError where the engine fails, its outputs do not fit, or are the same for other live pictures, see
        Answers; NotFinite where they are no numbers.
        """
        t0 = time.perf_counter()
        _, place = self._letterbox(frame.image)
        t1 = time.perf_counter()
        if when_read is not None:
            when_read()
        outputs = self.engine.infer(self._inputs)
        t2 = time.perf_counter()
        self._check(outputs)
        if _is_live(frame) and self._answers.stuck(self._letterbox.tensor, outputs, time.monotonic_ns()):
            raise EngineError("the engine gives the same to the bit, whatever picture it is shown")
        found = {name: decode(outputs, place) for name, decode in self._decoders}
        self._check_boxes(outputs)
        embedding = _embedding(outputs.get(self._embedding))
        t3 = time.perf_counter()
        stages_ms = {"letterbox": (t1 - t0) * 1e3, "infer": (t2 - t1) * 1e3, "decode": (t3 - t2) * 1e3}
        if self._tracking is not None:
            found = self._tracking.update(found, frame)
            stages_ms["track"] = (time.perf_counter() - t3) * 1e3
        if self.placing is not None:
            t4 = time.perf_counter()
            found = self.placing.update(found, frame)
            stages_ms["place"] = (time.perf_counter() - t4) * 1e3
        now_ns = time.monotonic_ns()
        return Result(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            t_capture_ns=frame.t_capture_ns,
            t_publish_ns=now_ns,
            outputs=found,
            size_hw=place.source_hw,
            stages_ms=stages_ms,
            dropped_before=dropped_before,
            media_time_s=frame.media_time_s,
            name=frame.name,
            state=self._state(now_ns - frame.t_capture_ns),
            valid_until_ns=frame.t_capture_ns + int(self.deadline_ms * 1e6) if self.deadline_ms else None,
            embedding=embedding,
        )

    def published(self, result: Result, now_ns: int) -> Result:
        """The same result, published at `now_ns` on CLOCK, later than it was made."""
        state = self._state(now_ns - result.t_capture_ns)
        return dataclasses.replace(result, t_publish_ns=now_ns, state=state)

    def _check(self, outputs: Mapping[str, NDArray[np.generic]]) -> None:
        for name in (*self._sureness, self._embedding):
            values = outputs.get(name)
            if values is not None and not np.logical_and.reduce(np.isfinite(values), axis=None):
                raise NotFinite(f"the network's {name!r} are not finite")

    def _check_boxes(self, outputs: Mapping[str, NDArray[np.generic]]) -> None:
        """A box that counts and lies nowhere is an object that the result would not tell of."""
        for head, thresholds in self._boxed:
            boxes, scores, classes = (outputs[name] for name in head.outputs)
            finite = np.isfinite(boxes)
            if np.logical_and.reduce(finite, axis=None):
                continue
            counts = scores[0] >= thresholds.take(classes[0], mode="clip")
            if (counts & ~finite[0].all(axis=1)).any():
                raise NotFinite(f"the network's {head.outputs[0]!r} are not finite where it is sure of an object")

    def _state(self, age_ns: int) -> ResultState:
        return "late" if self.deadline_ms and age_ns > self.deadline_ms * 1e6 else "fresh"


def _is_live(frame: Frame) -> bool:
    """Whether it is no frame of a file."""
    return frame.media_time_s is None and not frame.name


def _embedding(output: NDArray[np.generic] | None) -> NDArray[np.float32] | None:
    """A copy of the embedding (1, D) as (D,), where the engine gives one."""
    if output is None:
        return None
    if output.ndim != 2 or len(output) != 1:
        raise EngineError(f"expected an embedding (1, D), found {output.shape}")
    return np.array(output[0], np.float32)


def _sureness(head: Head) -> tuple[str, ...]:
    """The outputs by which a head says how sure it is. Boxes may be anything where no object is; masks say nothing."""
    if isinstance(head, DetectHead):
        return (head.outputs[1],)
    return () if isinstance(head, SegmentHead) else head.outputs
