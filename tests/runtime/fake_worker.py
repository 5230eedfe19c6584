"""The device's worker with a fake TensorRT and a fake driver: `python fake_worker.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fake_cuda
import fake_tensorrt

from edgetl_runtime import cuda

sys.modules["tensorrt"] = fake_tensorrt
cuda.load_driver = fake_cuda.FakeDriver  # type: ignore[assignment]

if __name__ == "__main__":
    from edgetl_runtime.tensorrt.worker import main

    sys.exit(main())
