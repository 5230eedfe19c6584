"""edgetl's loop, as a program that uses its runtime would. usage: python edgetl_peer.py JOB.json

JOB: bundle, source; variant and engine, null for the pair that the bundle's export chose; golden, which can only be
replayed on that pair: with random weights another precision gives other boxes.
"""

from __future__ import annotations

from meter import Channel, Meter, job

import edgetl_runtime
from edgetl_runtime.schedule import set_opencv_threads


def main() -> None:
    """Until the source ends, or the meter has enough."""
    channel, work = Channel(), job()
    set_opencv_threads(live=work["mode"] == "live")
    ages_ms: list[float] = []
    with edgetl_runtime.open(
        work["bundle"], work["source"], variant=work["variant"], engine=work["engine"], golden=work["golden"]
    ) as session:
        meter = Meter(work)
        for frame, result in session.frames():
            stages = result.stages_ms
            outside_ms = stages["letterbox"] + stages["decode"]
            boxes = len(result.detections)
            ages_ms.append(result.age_ms)
            if not meter.have(frame.image, outside_ms=outside_ms, engine_ms=stages["infer"], boxes=boxes):
                break
            del frame, result
        summary = session.summary()
    meter.tell(
        channel,
        ("onnxruntime", "openvino", "opencv-python", "numpy"),
        own_age_ms=ages_ms[work["warmup"] :],
        stages=summary.stages,
        engine=f"{summary.engine} {summary.precision}",
        own_drops=summary.dropped,
    )


if __name__ == "__main__":
    main()
