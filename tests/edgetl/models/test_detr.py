"""D-FINE and RT-DETRv2: the published figures, the same answers as transformers' own model, weights from anywhere."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgetl.models import detr_weights
from edgetl.models.detr import (
    DETRS,
    DetrNetwork,
    Learning,
    Queries,
    config_of,
    fresh_model,
    is_detr,
    network_from_model,
)
from edgetl.models.detr_weights import build_detr
from edgetl.models.hub import HubUnreachable
from edgetl.training.config import TuneConfig
from edgetl.training.optimise import parameter_groups
from edgetl_runtime.errors import InputError, MissingPackage

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread", "small")

NAMES = ("dfine-tiny", "rtdetrv2-tiny")
HW = (64, 96)


def frames(seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *HW, generator=torch.Generator().manual_seed(seed))


def queries_of(network: DetrNetwork, x: Tensor, targets: dict[str, tuple[Tensor, ...]] | None = None) -> Queries:
    found: Any = network(x, targets).heads["detect"]
    assert isinstance(found, Queries)
    return found


def seen_something(model: nn.Module) -> nn.Module:
    """The model with norms that know its activations: at their start hardly any signal gets through a network."""
    model.train()
    with torch.no_grad():
        for i in range(20):
            model(frames(i, 4))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("dfine-nano", 3.8),
        ("dfine-small", 10.3),
        ("rtdetrv2-r18", 20.0),
        ("rtdetrv2-r34", 31.0),
        ("rtdetrv2-r50", 42.5),
    ],
)
def test_the_figures_make_networks_of_the_published_size(name: str, millions: float) -> None:
    """Parameters as the projects' own tables state them; every figure of a config moves the sum."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = getattr(transformers, DETRS[name].family[2])(config_of(name, 80))
    held = sum(p.numel() for p in model.parameters()) / 1e6
    assert held == pytest.approx(millions, rel=0.035)


def test_names() -> None:
    assert is_detr("dfine-nano") and is_detr("rtdetrv2-r18")
    assert not is_detr("resnet18") and not is_detr("")
    assert DETRS["dfine-nano"].queries == 300 and DETRS["dfine-tiny"].queries == 12


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_transformers_own_model_does(name: str) -> None:
    model = seen_something(fresh_model(name, 3))
    x = frames(0)
    with torch.no_grad():
        expected = model(x)
        network = network_from_model(model)
        found = queries_of(network, x)
        embedding = network(x).embedding
        maps = network.backbone(x)
    assert found.logits.shape == (2, 12, 3) and found.boxes.shape == (2, 12, 4)
    assert expected.logits.std() > 1e-3, "a network that sees nothing would prove nothing"
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.boxes, expected.pred_boxes)
    torch.testing.assert_close(embedding, maps[-1].mean((2, 3)))
    assert [m.shape[2:] for m in found.encoded] == [(64 // s, 96 // s) for s in DETRS[name].strides]
    assert (found.size_hw, found.learning) == (HW, None)


@pytest.mark.parametrize("name", NAMES)
def test_in_training_the_loss_gets_every_layer_and_noised_objects(name: str) -> None:
    network = network_from_model(fresh_model(name, 3)).train()
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.1]], [[0.6, 0.4, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0]]])
    targets = {"detect": (boxes, torch.tensor([[1, 2], [0, 0]]), torch.tensor([[1, 2], [1, 0]]))}
    found = queries_of(network, frames(0), targets)
    assert found.logits.shape == (2, 12, 3), "the noised objects are no answer"
    learning = found.learning
    assert isinstance(learning, Learning) and learning.denoising is not None
    noised = learning.denoising["dn_num_split"][0]
    assert learning.denoising["dn_num_group"] == 8 and noised == 16, "one object a frame, the ignored one is none"
    assert learning.logits.shape[2] == noised + 12 and learning.logits.shape[1] >= 2
    plain = queries_of(network, frames(0)).learning
    assert plain is not None and plain.denoising is None and plain.logits.shape[2] == 12


def test_what_it_is_to_the_training() -> None:
    network = network_from_model(fresh_model("dfine-tiny", 2))
    with pytest.raises(TypeError, match="cached features"):
        network.heads_on([], HW)
    own = {id(p) for part in network.new_parts() for p in part.parameters()}
    backbone = {id(p) for p in network.backbone.parameters()}
    assert not own & backbone and own | backbone == {id(p) for p in network.parameters()}
    rates = {g["base_lr"] for g in parameter_groups(network, TuneConfig(), transfer=True)}
    assert max(rates) == pytest.approx(1.5e-4) and min(rates) < 6e-5, "the published order, not that of a light head"


def test_layers_have_their_own_weights() -> None:
    """A checkpoint in which layers differ must come back as it was."""
    network = network_from_model(fresh_model("rtdetrv2-tiny", 2))
    with torch.no_grad():
        for i, layer in enumerate(network.detr.decoder.class_embed):  # type: ignore[union-attr, arg-type]
            layer.weight.fill_(float(i))
    again, _ = build_detr("rtdetrv2-tiny", ("a", "b"), "none")
    again.load_state_dict(network.state_dict())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in network.state_dict().items())


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, nn.Module]:
    """What save_pretrained writes of a model that knows Person, car and dog, and the model."""
    model: Any = seen_something(fresh_model(getattr(request, "param", "dfine-tiny"), 3))
    model.config.id2label = {0: "Person", 1: "car", 2: "dog"}
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", model


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_a_folder_that_transformers_wrote(folder: tuple[Path, nn.Module]) -> None:
    """It holds the names that the published files have, which are older than the modules'."""
    path, model = folder
    name = next(n for n in NAMES if DETRS[n].family[2] == type(model).__name__)
    network, source = build_detr(name, ("Person", "car", "dog"), str(path))
    assert (source.source, source.licence) == ("saved/model.safetensors", "not stated")
    x = frames(3)
    with torch.no_grad():
        expected = model(x)
        found = queries_of(network, x)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.boxes, expected.pred_boxes)


@pytest.mark.parametrize("labels", [("car", "person"), ("bus", "Car", "person", "tram"), ("tram", "car", "bus")])
def test_classes_of_the_same_name_start_from_what_is_known(
    folder: tuple[Path, nn.Module], labels: tuple[str, ...]
) -> None:
    """Whether there are fewer, more or as many classes as the weights know."""
    path, model = folder
    known: Any = model.state_dict()
    network, _ = build_detr("dfine-tiny", labels, str(path))
    own = network.detr.state_dict()
    for key in ("enc_score_head.weight", "enc_score_head.bias", "decoder.class_embed.1.weight"):
        assert len(own[key]) == len(labels)
        for i, label in enumerate(labels):
            if label.lower() in ("person", "car"):
                assert torch.equal(own[key][i], known[f"model.{key}"][("person", "car").index(label.lower())])
    assert torch.equal(own["enc_output.0.weight"], known["model.enc_output.0.weight"])
    assert all(v.isfinite().all() for v in own.values())


def test_classes_of_other_names_start_anew_where_there_are_as_many(folder: tuple[Path, nn.Module]) -> None:
    path, model = folder
    known: Any = model.state_dict()
    network, _ = build_detr("dfine-tiny", ("tram", "car"), str(path))
    own = network.detr.state_dict()["enc_score_head.weight"]
    assert torch.equal(own[1], known["model.enc_score_head.weight"][1])
    assert not torch.equal(own[0], known["model.enc_score_head.weight"][0]), "a tram is no person"


def test_a_file_and_a_folder_without_names(folder: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, model = folder
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    network, source = build_detr("dfine-tiny", ("a", "b"), str(tmp_path / "weights.pt"))
    assert source.source == "weights.pt"
    key = "enc_output.0.weight"
    assert torch.equal(network.detr.state_dict()[key], model.state_dict()[f"model.{key}"])
    for content in ("{}", "no json", json.dumps({"id2label": {"1": "car"}})):
        (path / "config.json").write_text(content)
        build_detr("dfine-tiny", ("a", "car"), str(path))


def test_what_is_refused(folder: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, model = folder
    with pytest.raises(InputError, match=r"another architecture than rtdetrv2-tiny, \d+ tensors are missing"):
        build_detr("rtdetrv2-tiny", ("a",), str(path))
    deeper = {**model.state_dict(), "model.decoder.layers.2.fc1.weight": torch.zeros(1)}
    torch.save(deeper, tmp_path / "deeper.pt")
    with pytest.raises(InputError, match=r"1 tensors are not of it \(first: .*layers\.2"):
        build_detr("dfine-tiny", ("a",), str(tmp_path / "deeper.pt"))
    spoiled = {k: v.clone() for k, v in model.state_dict().items()}
    spoiled["model.enc_output.0.bias"][0] = float("nan")
    torch.save(spoiled, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"1 tensors hold NaN or infinity \(first: model\.enc_output"):
        build_detr("dfine-tiny", ("a",), str(tmp_path / "nan.pt"))
    (tmp_path / "empty").mkdir()
    for weights, says in (
        ("package", "no registry package"),
        ("/no/such", "no such"),
        (str(tmp_path / "empty"), "holds no"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            build_detr("dfine-tiny", ("a",), weights)
        assert "`none`" in caught.value.remedy and "\n" not in str(caught.value)


def test_the_hub(folder: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = folder
    asked: list[tuple[str, tuple[str, ...]]] = []

    def from_hub(repository: str, *, names: tuple[str, ...] = ("model.safetensors",)) -> Path:
        asked.append((repository, tuple(names)))
        return path / names[0]

    monkeypatch.setattr(detr_weights, "hub_file", from_hub)
    network, source = build_detr("dfine-tiny", ("car",), "hub")
    assert source.source == "ustc-community/dfine-nano-coco/model.safetensors (hub)"
    assert source.licence == "apache-2.0" and len(source.sha256) == 64
    assert asked == [(DETRS["dfine-nano"].hub, ("model.safetensors",)), (DETRS["dfine-nano"].hub, ("config.json",))]
    known = model.state_dict()["model.enc_score_head.weight"]
    assert torch.equal(network.detr.state_dict()["enc_score_head.weight"][0], known[1])

    def gone(repository: str, *, names: tuple[str, ...] = ()) -> Path:
        raise HubUnreachable("the hub can't be reached")

    monkeypatch.setattr(detr_weights, "hub_file", gone)
    with pytest.raises(HubUnreachable, match=r"dfine-tiny: the hub can't be reached; give a folder .*`none`"):
        build_detr("dfine-tiny", ("car",), "hub")
    monkeypatch.setitem(DETRS, "dfine-tiny", dataclasses.replace(DETRS["dfine-tiny"], licence="cc-by-nc-4.0"))
    with pytest.raises(InputError, match=r"cc-by-nc-4\.0 forbids commercial use"):
        build_detr("dfine-tiny", ("car",), "hub")


@pytest.mark.parametrize("package", ["transformers", "scipy"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"{package}.*edgetl\[detr\]"):
        build_detr("dfine-tiny", ("car",), "none")


def test_loading_leaves_transformers_talk_as_it_was(
    folder: tuple[Path, nn.Module], capfd: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    capfd.readouterr()
    before = transformers.utils.logging.get_verbosity()
    build_detr("dfine-tiny", ("a", "b"), str(folder[0]))
    assert transformers.utils.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
