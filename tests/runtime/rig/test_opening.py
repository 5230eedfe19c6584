"""open_rig: what its documentation shows, and what it refuses; everything is closed where it fails."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from geometry_support import calibration
from rig_support import RateCamera
from runtime_support import HEADS, FakeCamera, scene, tiny_model, write_test_bundle

import edgetl_runtime
from edgetl_runtime.bundle import Bundle
from edgetl_runtime.engines import Engine, load_engine
from edgetl_runtime.errors import BundleError, CameraError, EngineError, InputError


def test_the_documented_example_runs(shared_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documented = edgetl_runtime.open_rig.__doc__
    assert documented is not None
    example = textwrap.dedent(documented[documented.index("        with edgetl_runtime.open_rig") :])
    for shown, here in (('"road.bundle"', repr(str(shared_bundle))), ('"left": 0', f'"left": {str(clip)!r}')):
        assert shown in example
        example = example.replace(shown, here)
    example = example.replace('"right": 2', f'"right": {str(clip)!r}')
    exec(compile(example, "the docstring", "exec"), {"edgetl_runtime": edgetl_runtime})
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told].count("left") == 12 == [line.split()[0] for line in told].count("right")


def test_the_readmes_example_runs(shared_bundle: Path, clip: Path) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    start = text.index("rig = edgetl_runtime.open_rig(")
    example = text[start : text.index("```", start)]
    for shown, here in (
        ('"road.bundle"', repr(str(shared_bundle))), ('"signs.bundle"', repr(str(shared_bundle))),
        ('"/dev/video0"', repr(str(clip))), ('"/dev/video2"', repr(str(clip))),
    ):  # fmt: skip
        assert shown in example
        example = example.replace(shown, here)
    exec(compile("import edgetl_runtime\n" + example, "README.md", "exec"), {})


def test_what_can_be_no_rig_is_refused(shared_bundle: Path) -> None:
    for bundles, cameras in (({}, {"a": 0}), ({"b": shared_bundle}, {})):
        with (
            pytest.raises(InputError, match="at least one bundle and one camera"),
            edgetl_runtime.open_rig(bundles, cameras=cameras),  # type: ignore[arg-type]
        ):
            pass
    with (
        pytest.raises(InputError, match="from 0 to 1000 ms, found -1"),
        edgetl_runtime.open_rig({"b": shared_bundle}, cameras={"a": 0}, gather_ms=-1),
    ):
        pass


def test_calibrations_that_were_exchanged_are_refused(shared_bundle: Path) -> None:
    left, front = FakeCamera([scene(90, 160)], live=False), FakeCamera([scene(90, 160)], live=False)
    with (
        pytest.raises(InputError, match="for camera 'left' says that it is of 'front'; give each camera its own"),
        edgetl_runtime.open_rig(
            {"b": shared_bundle}, cameras={"left": left, "front": front}, calibrations={"left": calibration()}
        ),
    ):
        pass
    assert left.closed and front.closed
    cameras = {"left": FakeCamera([scene(90, 160)], live=False)}
    with edgetl_runtime.open_rig({"b": shared_bundle}, cameras=cameras, calibrations={"left": calibration()}) as rig:
        assert len(list(rig)) == 1, "a name that no other camera has says nothing"


def test_tracking_needs_boxes(tmp_path: Path, shared_bundle: Path) -> None:
    only = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:])
    camera = RateCamera(10)
    with (
        pytest.raises(InputError, match="nothing to track"),
        edgetl_runtime.open_rig({"m": only}, cameras={"a": camera}, track=True),
    ):
        pass
    assert camera.closed
    film = FakeCamera([scene(90, 160, i) for i in range(3)], live=False)
    with edgetl_runtime.open_rig({"m": only, "b": shared_bundle}, cameras={"f": film}, track=True) as rounds:
        stages = [{name: "track" in r.stages_ms for name, r in made.results["f"].items()} for made in rounds]
    assert stages == [{"m": False, "b": True}] * 3


def test_places_need_boxes(tmp_path: Path, shared_bundle: Path) -> None:
    only = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:])
    film = FakeCamera([scene(90, 160)], live=False)
    with (
        pytest.raises(InputError, match="nothing to place"),
        edgetl_runtime.open_rig({"m": only}, cameras={"left": film}, calibrations={"left": calibration()}),
    ):
        pass
    assert film.closed
    film = FakeCamera([scene(90, 160)], live=False)
    bundles = {"m": only, "b": shared_bundle}
    with edgetl_runtime.open_rig(bundles, cameras={"left": film}, calibrations={"left": calibration()}) as rounds:
        assert [r.results["left"]["b"].detections.places is not None for r in rounds] == [True]


def test_a_path_names_a_source_as_text_does(shared_bundle: Path, clip: Path) -> None:
    with edgetl_runtime.open_rig({"b": shared_bundle}, cameras={"path": clip, "text": str(clip)}) as rounds:
        assert [sorted(made.results) for made in rounds] == [["path", "text"]] * 12


def test_a_failed_opening_closes_what_was_open(shared_bundle: Path, tmp_path: Path) -> None:
    camera, later = RateCamera(10), RateCamera(10)
    with (
        pytest.raises(BundleError),
        edgetl_runtime.open_rig({"b": shared_bundle, "none": tmp_path / "no"}, cameras={"a": camera}),
    ):
        pass
    assert camera.closed
    cameras = {"lost": "/nowhere.mp4", "later": later}
    with pytest.raises(CameraError, match="no source"), edgetl_runtime.open_rig({"b": shared_bundle}, cameras=cameras):
        pass
    assert later.closed
    with (
        pytest.raises(EngineError, match="there are: fp32"),
        edgetl_runtime.open_rig({"b": shared_bundle}, cameras={"a": RateCamera(10)}, engine="tensorrt"),
    ):
        pass


def test_options_reach_every_bundle(shared_bundle: Path, shared_many: Path) -> None:
    film = FakeCamera([scene(90, 160, i) for i in range(5)], live=False)
    options = {"threshold": 1.0, "deadline_ms": 1e-3, "golden": "skip", "engine": "openvino"}
    with edgetl_runtime.open_rig(
        {"a": shared_bundle, "b": shared_many},
        cameras={"film": film},
        **options,  # type: ignore[arg-type]
    ) as rounds:
        for made in rounds:
            for result in made.results["film"].values():
                assert result.state == "late" and len(result.detections) == 0
    document = rounds.summary().as_json()
    assert document["engine"] == "openvino" and document["golden"] == {"frames": 0}
    assert [row["golden"] for row in document["bundles"].values()] == [{"frames": 0}] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("other", [False, True], ids=["the same", "another network"])
def test_an_engine_that_fails_is_made_anew_and_proven(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    engines: list[Engine] = []

    def load(bundle: Bundle, **options: object) -> Engine:
        again = bool(engines)
        path = tiny_model(tmp_path / "other.onnx", bias=0.2) if again and other else shared_bundle / "model.fp32.onnx"
        engines.append(load_engine("onnxruntime", path, precision="fp32"))
        return engines[-1]

    monkeypatch.setattr("edgetl_runtime.rig.opening.load_bundle_engine", load)
    with edgetl_runtime.open_rig({"b": shared_bundle}, cameras={"a": RateCamera(200)}) as rounds:
        network = rounds.networks["b"]
        engines[0].close()
        for _ in rounds:
            if network.reloads or len(engines) == 3:
                break
    assert network.reloads == (0 if other else 1), "what gives something else than the samples is never used"
