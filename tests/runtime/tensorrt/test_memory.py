"""What a build may use of the memory that is free, and when it is refused."""

from __future__ import annotations

import pytest

from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.tensorrt import memory
from edgetl_runtime.tensorrt.memory import MB, Memory, host_available_bytes, workspace_mb


@pytest.mark.parametrize(
    ("memory", "wanted", "allowed"),
    [
        (Memory(4000 * MB, None), 1024, 1024),
        (Memory(1300 * MB, None), 1024, 300),
        (Memory(800 * MB, None), 1024, None),
        (Memory(8000 * MB, 4000 * MB), 1024, 1024),
        (Memory(8000 * MB, 1000 * MB), 1024, 500),
        (Memory(8000 * MB, 400 * MB), 1024, None),
        (Memory(900 * MB, 4000 * MB), 1024, None),
        (Memory(1100 * MB, 4000 * MB), 1024, 1024),
    ],
)
def test_the_workspace_is_cut_to_what_is_free(memory: Memory, wanted: int, allowed: int | None) -> None:
    if allowed is None:
        with pytest.raises(InputError, match=r"needs about \d+ MB of memory.*, \d+ MB are free; close other programs"):
            workspace_mb(memory, onnx_bytes=100 * MB, wanted_mb=wanted)
    else:
        assert workspace_mb(memory, onnx_bytes=100 * MB, wanted_mb=wanted) == allowed


def test_the_line_says_whose_memory_it_is() -> None:
    with pytest.raises(InputError, match="memory of the GPU, 400 MB are free"):
        workspace_mb(Memory(8000 * MB, 400 * MB), onnx_bytes=100 * MB, wanted_mb=512)
    with pytest.raises(InputError, match="memory of the host, 900 MB are free"):
        workspace_mb(Memory(900 * MB, 4000 * MB), onnx_bytes=100 * MB, wanted_mb=512)
    with pytest.raises(InputError, match="--workspace-mb 8 is too little"):
        workspace_mb(Memory(8000 * MB, None), onnx_bytes=MB, wanted_mb=8)


def test_a_system_that_does_not_say_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 4_096_000_000)
    assert host_available_bytes() == 4_096_000_000
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    with pytest.raises(EngineError, match="free memory"):
        host_available_bytes()
