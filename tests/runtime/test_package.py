"""The package itself: cheap to import, and honest about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgetl_runtime
from edgetl_runtime.errors import MissingPackage
from edgetl_runtime.imports import need, present


def test_every_public_name_is_there() -> None:
    for name in edgetl_runtime.__all__:
        assert getattr(edgetl_runtime, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        _ = edgetl_runtime.nothing  # type: ignore[attr-defined]


def test_the_import_brings_nothing_heavy() -> None:
    code = (
        "import sys, edgetl_runtime; print(sorted({'numpy','cv2','msgspec','torch','cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inspecting_a_bundle_needs_the_base_only(shared_bundle: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('cv2', 'torch', 'onnxruntime', 'openvino', 'onnx', 'cryptography'): sys.modules[name] = None\n"
        "import argparse\n"
        "from edgetl.commands import inspect\n"
        "document = inspect.run(argparse.Namespace(bundle=sys.argv[1], require_signature=None))\n"
        "print(document['name'], 'numpy' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(shared_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tiny", "False"]
    for word in ("vehicle, pedestrian, light", "letterbox to 96x64", "fp32", "cpu", "provenance", "ap50"):
        assert word in done.stderr


def test_a_missing_package_names_the_extra_and_jetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert not present("cv2")
    with pytest.raises(MissingPackage, match=r"edgetl\[desktop\].*python3-opencv"):
        need("cv2")
    assert not present("surely.not.here")


@pytest.mark.skipif(not present("openvino"), reason="openvino is not installed")
def test_openvino_comes_without_its_converter_until_that_is_asked_for() -> None:
    code = (
        "import sys\n"
        "from edgetl_runtime.imports import openvino\n"
        "package, converter = openvino(), 'openvino.tools.ovc'\n"
        "before = converter in sys.modules\n"
        "print(before, hasattr(package, 'nothing'), package.convert_model.__name__, converter in sys.modules)\n"
        "print(openvino() is package)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "convert_model", "True", "True"]


@pytest.mark.skipif(not present("openvino"), reason="openvino is not installed")
def test_openvino_can_be_asked_for_first_by_many_threads_at_once() -> None:
    code = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "from edgetl_runtime.imports import openvino\n"
        "sys.setswitchinterval(1e-6)\n"
        "together = Barrier(8)\n"
        "def first(_):\n"
        "    together.wait()\n"
        "    return openvino()\n"
        "with ThreadPoolExecutor(8) as threads:\n"
        "    packages = list(threads.map(first, range(8)))\n"
        "print(all(p is packages[0] for p in packages), 'openvino.tools.ovc' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
