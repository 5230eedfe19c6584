"""Roboflow's InferencePipeline in its own environment, with the plain script's detector as its logic.

usage: python roboflow_peer.py JOB.json   (model, source, size, threshold, nms_iou, most)

Its own models come from its servers; `init_with_custom_logic` is its documented way to run another network.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("METRICS_ENABLED", "False")
os.environ.setdefault("TELEMETRY_OPT_OUT", "True")

from meter import Channel, Meter, job


def main() -> None:
    """Until the source ends, or the meter has enough."""
    channel, work = Channel(), job()
    from inference import InferencePipeline
    from plain_peer import Detector

    detect = Detector(work)
    meter = Meter(work)

    def logic(frames: list[Any]) -> list[Any]:
        return [detect(frame.image) for frame in frames]

    def take(predictions: Any, frames: Any) -> None:
        pairs = [(predictions, frames)] if not isinstance(frames, list) else list(zip(predictions, frames, strict=True))
        for (found, outside_ms, engine_ms), frame in pairs:
            if not meter.have(frame.image, outside_ms=outside_ms, engine_ms=engine_ms, boxes=len(found)):
                pipeline.terminate()

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=work["source"], on_video_frame=logic, on_prediction=take
    )
    pipeline.start()
    pipeline.join()
    meter.tell(channel, ("inference", "onnxruntime", "opencv-python"))
    os._exit(0)


if __name__ == "__main__":
    main()
