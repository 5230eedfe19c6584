"""The device's worker: builds an engine, or loads built ones and finds out what they are.

Run as `python -m edgetl_runtime.tensorrt.worker`: a native crash ends this process and no other.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edgetl_runtime.errors import EdgetlError
from edgetl_runtime.tensorrt.compiler import Emit, compile_job
from edgetl_runtime.tensorrt.onnx_file import read_onnx
from edgetl_runtime.tensorrt.protocol import Examine, Job, Result
from edgetl_runtime.tensorrt.serving import serve

WORKER = (sys.executable, "-m", "edgetl_runtime.tensorrt.worker")


def run(job: Job | Examine, emit: Emit, stop: threading.Event) -> Result:
    """Do one job; what edgetl itself refuses is an answer, what a library does is its own."""
    try:
        if isinstance(job, Examine):
            from edgetl_runtime.tensorrt.examine import examine  # with numpy, which a build does without

            return examine(job, emit, stop)
        return compile_job(job, read_onnx(Path(job.onnx)), emit, stop)
    except EdgetlError as error:
        return Result(kind="invalid-model", note=str(error))


def main() -> int:
    """Read one job from stdin, write events to stdout, the result last."""
    return serve(Job | Examine, run)


if __name__ == "__main__":
    sys.exit(main())
