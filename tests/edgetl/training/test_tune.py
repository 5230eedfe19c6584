"""Fine-tuning on drawn images: what is written, stopping and going on, refusals, and what learns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from edgetl.answers import known_answers
from edgetl.data import Dataset, read_dataset
from edgetl.exporting import ExportOptions
from edgetl.heads import kinds_of
from edgetl.metrics.predict import Evaluation, Frames
from edgetl.models.backbone import build_backbone
from edgetl.models.deploy import Deployed, deployable
from edgetl.models.network import Network
from edgetl.training import keep as keep_module
from edgetl.training import learn as learn_module
from edgetl.training import probe as probe_module
from edgetl.training import tune as tune_module
from edgetl.training.batches import Batch, augmented_batches, epoch_order
from edgetl.training.checkpoint import Checkpoint, load_checkpoint, load_network
from edgetl.training.config import TuneConfig
from edgetl.training.keep import Keeper
from edgetl.training.learn import head_losses
from edgetl.training.logs import read_curve
from edgetl.training.mix import Mixed, mixture
from edgetl.training.optimise import Average, freeze_first
from edgetl.training.tune import LossNotFinite, TuneResult, TuneStopped, tune
from edgetl_runtime.errors import InputError

CONFIG = TuneConfig(
    size_hw=(64, 96), crop_hw=(64, 96), epochs=2, probe_epochs=1, batch=2, weights="none", val_images=2, val_every=2
)
Weights = dict[str, torch.Tensor]
PACKAGE = msgspec.structs.replace(CONFIG, weights="package")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(coco_dir: Path) -> tuple[Dataset, Dataset]:
    return read_dataset(coco_dir, "train"), read_dataset(coco_dir, "val")


def start(data: tuple[Dataset, Dataset], out: Path, config: TuneConfig = CONFIG, *, resume: bool = False) -> TuneResult:
    out.mkdir(exist_ok=True)
    return tune(*data, out, config, resume=resume)


def losses(out: Path) -> list[float]:
    return [float(row["loss"]) for row in read_curve(out / "metrics.csv") if "loss" in row]


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ctrl-C from another thread when the batches of this number (of all epochs) is handed out."""
    wanted: list[int] = []
    handed = 0

    def interrupting(*args: object, **kwargs: object) -> Iterator[Batch]:
        nonlocal handed
        for batch in augmented_batches(*args, **kwargs):  # type: ignore[arg-type]
            handed += 1
            if handed in wanted:
                thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
                thread.start()
                thread.join()
            yield batch

    monkeypatch.setattr(tune_module, "augmented_batches", interrupting)
    yield wanted


def test_what_a_run_writes(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = start(data, out, PACKAGE)
    assert result.best == out / "best.pt"
    assert (result.epochs, result.steps, result.train_images) == (2, 4, 4)
    assert {"best.pt", "last.pt", "metrics.csv"} <= {p.name for p in out.iterdir()}
    assert not [p.name for p in out.iterdir() if p.name.startswith("features") or p.suffix == ".part"]
    rows = read_curve(out / "metrics.csv")
    assert [r["phase"] for r in rows] == ["probe", "probe", "fine-tune", "fine-tune", "fine-tune"]
    assert [r["step"] for r in rows if r["phase"] == "fine-tune"] == [2, 4, 4]
    assert all(math.isfinite(v) for r in rows for v in r.values() if isinstance(v, float))
    best, last = load_checkpoint(out / "best.pt"), load_checkpoint(out / "last.pt")
    assert best.training is None and last.training is not None
    assert best.card.heads[0].labels == ("car", "person")
    assert best.card.value == result.value
    assert best.card.weights.licence == "Apache-2.0"
    assert best.card.data_sha256 == data[0].fingerprint()
    model, card = load_network(out)
    assert card == best.card and not model.training


def test_random_weights_are_not_probed(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    start(data, tmp_path / "run")
    assert {r["phase"] for r in read_curve(tmp_path / "run" / "metrics.csv")} == {"fine-tune"}


def test_no_epochs_keeps_the_probe(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    result = start(data, tmp_path / "run", msgspec.structs.replace(PACKAGE, epochs=0))
    assert result.steps == 0
    load_network(result.best)


def test_one_seed_one_result(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        start(data, tmp_path / name, msgspec.structs.replace(CONFIG, seed=seed))
        found.append(losses(tmp_path / name))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_ctrl_c_saves_and_resume_ends_where_an_unbroken_run_does(
    data: tuple[Dataset, Dataset], tmp_path: Path, stop_at: list[int], batch: int
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    expected = start(data, unbroken)
    stop_at.append(4 + batch)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TuneStopped, match=rf"step {batch}; saved .*last\.pt.*--resume") as caught:
        start(data, broken)
    assert caught.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) == before
    training = load_checkpoint(broken / "last.pt").training
    assert training is not None and training["at"]["step"] == batch
    result = start(data, broken, resume=True)
    assert (result.steps, result.epochs) == (expected.steps, expected.epochs)
    assert losses(broken)[-1] == losses(unbroken)[-1]
    weights = [load_checkpoint(d / "last.pt").model for d in (unbroken, broken)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_several_heads_weigh_as_much_after_a_resume_as_before(scenes: Path, tmp_path: Path, stop_at: list[int]) -> None:
    config = msgspec.structs.replace(CONFIG, tasks=("detect", "segment"))
    both = read_dataset(scenes, "train"), read_dataset(scenes, "val")
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    steps = start(both, unbroken, config).steps
    stop_at.append(steps + 4)
    with pytest.raises(TuneStopped):
        start(both, broken, config)
    start(both, broken, config, resume=True)
    weights = [load_checkpoint(d / "last.pt").model for d in (unbroken, broken)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_ctrl_c_while_probing_starts_the_probe_anew(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(count: int, *, seed: int, epoch: int) -> list[int]:
        os.kill(os.getpid(), signal.SIGINT)
        return epoch_order(count, seed=seed, epoch=epoch)

    expected = start(data, tmp_path / "unbroken", PACKAGE)
    with monkeypatch.context() as patch:
        patch.setattr(probe_module, "epoch_order", interrupted)
        with pytest.raises(TuneStopped, match=r"stopped at the probe; saved .*last\.pt"):
            start(data, tmp_path / "broken", PACKAGE)
    result = start(data, tmp_path / "broken", PACKAGE, resume=True)
    assert result.steps == expected.steps
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")


def test_a_run_that_was_killed_before_it_saved_has_each_row_once(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(data, tmp_path / "unbroken")
    saves: list[int] = []
    plain = Keeper.save_last

    def second_is_not_written(keeper: Keeper, *args: object) -> None:
        saves.append(keeper.at.epoch)
        if len(saves) == 2:
            raise RuntimeError("killed")
        plain(keeper, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save_last", second_is_not_written)
        with pytest.raises(RuntimeError, match="killed"):
            start(data, tmp_path / "broken")
    start(data, tmp_path / "broken", resume=True)
    curves = [read_curve(tmp_path / name / "metrics.csv") for name in ("unbroken", "broken")]
    kept = [[{k: v for k, v in row.items() if k != "seconds"} for row in curve] for curve in curves]
    assert kept[0] == kept[1]


def test_what_the_exported_network_answers_to_the_validation_images_is_kept(
    data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    """Of all that `export` asks about by itself, not of the few that epochs are judged by."""
    best = start(data, tmp_path / "run").best
    network, card = load_network(best)
    images = Frames(data[1].take(ExportOptions(data=None, targets=()).val_images), card.preprocess).images
    assert len(images) > CONFIG.val_images
    known = known_answers(best, images)
    module = Deployed(deployable(network), kinds_of(card.heads, data[1], backbone=card.backbone), card.preprocess)
    assert known is not None and set(known) == {name for head in card.heads for name in head.outputs}
    for i, image in enumerate(images):
        with torch.inference_mode():
            found = dict(zip(module.outputs, module.eval()(torch.from_numpy(image)), strict=False))
        assert all((array[i] == found[name].numpy()).all() for name, array in known.items())
    start(data, tmp_path / "run", resume=True)
    assert known_answers(best, images) is not None


def test_resuming_a_finished_run_changes_nothing(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    first = start(data, tmp_path / "run")
    again = start(data, tmp_path / "run", resume=True)
    assert (again.steps, again.value, again.best) == (first.steps, first.value, first.best)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where a finished run is, once a test has made it; made once, copied by those that need one."""
    return {"": tmp_path_factory.mktemp("finished") / "run"}


@pytest.fixture
def run(data: tuple[Dataset, Dataset], finished: dict[str, Path], tmp_path: Path) -> Path:
    """A run of one epoch that a test may spoil, on data equal to `data`."""
    if not finished[""].exists():
        start(data, finished[""], msgspec.structs.replace(CONFIG, epochs=1))
    return Path(shutil.copytree(finished[""], tmp_path / "run"))


def test_a_run_that_was_killed_after_averaging_does_not_average_again(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def half(first: Weights, best: Weights, value: float, score: object) -> Mixed:
        tried.append(value)
        return Mixed(mixture(first, best, 0.5), 0.5, value)

    def killed(keeper: Keeper, frames: Frames) -> Checkpoint:
        raise RuntimeError("killed")

    # The last epoch is the best by far, so that there is something to average.
    monkeypatch.setattr(keep_module, "best_mixture", half)
    values = itertools.count(1)
    plain = Keeper.score

    def rising(keeper: Keeper, state: Weights) -> Evaluation:
        found = plain(keeper, state)
        heads = {k: dataclasses.replace(m, value=next(values) / 100) for k, m in found.heads.items()}
        return dataclasses.replace(found, heads=heads)

    monkeypatch.setattr(Keeper, "score", rising)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "trust", killed)
        with pytest.raises(RuntimeError, match="killed"):
            start(data, tmp_path / "run", PACKAGE)
    averaged = load_checkpoint(tmp_path / "run").model
    result = start(data, tmp_path / "run", PACKAGE, resume=True)
    again = load_checkpoint(tmp_path / "run")
    assert len(tried) == 1 and all(torch.equal(v, again.model[k]) for k, v in averaged.items())
    assert result.value == again.card.value


def test_maps_of_one_cell_are_refused_in_one_line(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, crop_hw=(32, 32), batch=1)
    with pytest.raises(InputError, match=r"a batch of 1 with crops of 32x32 .* larger --batch or --crop"):
        start(data, tmp_path, config)


def test_resume_with_other_settings_is_refused(data: tuple[Dataset, Dataset], run: Path) -> None:
    before = (run / "last.pt").read_bytes()
    with pytest.raises(InputError, match=r"other settings: epochs, seed;.*same command"):
        start(data, run, msgspec.structs.replace(CONFIG, epochs=3, seed=5), resume=True)
    assert (run / "last.pt").read_bytes() == before


def test_resume_with_other_data_is_refused(data: tuple[Dataset, Dataset], run: Path) -> None:
    fewer = Dataset(data[0].name, data[0].classes, data[0].samples[:3])
    with pytest.raises(InputError, match="other data"):
        start((fewer, data[1]), run, msgspec.structs.replace(CONFIG, epochs=1), resume=True)


def test_resume_with_other_validation_images_is_refused(data: tuple[Dataset, Dataset], run: Path) -> None:
    with pytest.raises(InputError, match=r"judged by other images than .*same --val"):
        start((data[0], data[1].only([0])), run, msgspec.structs.replace(CONFIG, epochs=1), resume=True)


def test_resume_from_a_best_checkpoint_is_refused(data: tuple[Dataset, Dataset], run: Path) -> None:
    shutil.copy(run / "best.pt", run / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt"):
        start(data, run, msgspec.structs.replace(CONFIG, epochs=1), resume=True)


def test_a_loss_that_is_not_finite_names_the_batch_and_keeps_the_best(
    data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = msgspec.structs.replace(PACKAGE, head_lr=1e30, backbone_lr=1e30)
    with pytest.raises(
        LossNotFinite, match=r"(loss|gradient) is (nan|inf).* on the batch 00\d\.png, 00\d\.png"
    ) as caught:
        start(data, out, config)
    assert caught.value.exit_status == 1
    best = load_checkpoint(out / "best.pt")
    assert all(torch.isfinite(v).all() for v in best.model.values())


@pytest.mark.parametrize("kind", ["NaN inside", "garbage", "a checkpoint of edgetl"])
def test_weights_that_can_not_be_used_are_refused(
    data: tuple[Dataset, Dataset], run: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "weights.pt"
    if kind == "NaN inside":
        state = build_backbone(CONFIG.backbone, "none").module.state_dict()
        state["blocks.1.0.conv_pw.weight"][0] = math.nan
        torch.save(state, path)
    elif kind == "garbage":
        path.write_bytes(b"no weights in here")
    else:
        shutil.copy(run / "best.pt", path)
    with pytest.raises(InputError, match=r"weights\.pt: .*(hold NaN|not a|an edgetl checkpoint)"):
        start(data, tmp_path / "new", msgspec.structs.replace(CONFIG, weights=str(path)))


def test_a_spoiled_step_changes_no_weights(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient that is not finite under a finite loss is found before the optimiser's step."""

    def spoiled(*args: object, **kwargs: object) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        real, figures = head_losses(*args, **kwargs)  # type: ignore[arg-type]
        real["detect"].register_hook(lambda gradient: gradient * math.nan)
        return real, figures

    steps: list[int] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(learn_module, "head_losses", spoiled)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: (steps.append(1), step(*a, **k)))
    with pytest.raises(LossNotFinite, match=r"the gradient is nan at step 0 on the batch 00\d\.png"):
        start(data, tmp_path / "run")
    assert not steps


def test_splits_with_different_classes_are_refused(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    other = dataclasses.replace(data[1], classes=("car", "tram"))
    with pytest.raises(InputError, match=r"classes of .* differ.*person.*tram"):
        start((data[0], other), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("left", ["nothing", "ignored objects only"])
def test_a_validation_split_without_objects_is_refused(
    data: tuple[Dataset, Dataset], tmp_path: Path, left: str
) -> None:
    samples = []
    for s in data[1].samples:
        keep = s.ignore | False if left != "nothing" else s.ignore & False
        samples.append(dataclasses.replace(s, boxes=s.boxes[keep], labels=s.labels[keep], ignore=s.ignore[keep]))
    with pytest.raises(InputError, match="no labelled object"):
        start((data[0], dataclasses.replace(data[1], samples=tuple(samples))), tmp_path / "run")


@pytest.mark.parametrize(("stride", "frozen"), [(0, 0), (4, 2)])
def test_frozen_layers_keep_their_weights_while_others_learn(
    data: tuple[Dataset, Dataset], tmp_path: Path, stride: int, frozen: int
) -> None:
    config = msgspec.structs.replace(PACKAGE, freeze_stride=stride, epochs=1, val_every=1)
    start(data, tmp_path / "run", config)
    training = load_checkpoint(tmp_path / "run" / "last.pt").training
    assert training is not None
    live = {k.removeprefix("backbone."): v for k, v in training["live"].items()}
    before = build_backbone(config.backbone, "package", fold=True).module.state_dict()
    changed = {k: not torch.equal(before[k], live[k]) for k in before if k.endswith("weight")}
    assert changed["conv_stem.weight"] is (stride == 0)
    for i in range(7):
        inside = [c for k, c in changed.items() if k.startswith(f"blocks.{i}.")]
        assert any(inside) is (bool(inside) and i >= frozen), f"blocks.{i} with freeze_stride {stride}"
    statistics = [k for k in before if "running_" in k and not torch.equal(before[k], live[k])]
    assert statistics == [], "small batches spoil pretrained statistics"


def test_statistics_are_learnt_where_that_was_asked_for(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    config = msgspec.structs.replace(PACKAGE, norms="learnt", probe_epochs=0, epochs=1)
    start(data, tmp_path / "run", config)
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    assert not checkpoint.card.folded and checkpoint.training is not None
    before = build_backbone(config.backbone, "package").module.state_dict()
    after = {k.removeprefix("backbone."): v for k, v in checkpoint.training["live"].items()}
    changed = {k: not torch.equal(before[k], after[k]) for k in before if k.endswith("running_mean")}
    assert not changed["bn1.running_mean"], "layers up to stride 4 stay as they are"
    assert all(v for k, v in changed.items() if k.startswith("blocks.6."))


def test_freezing_follows_the_stride() -> None:
    module = build_backbone("resnet18", "none").module
    freeze_first(module.eval(), 8)
    frozen = {n.split(".")[0] for n, p in module.named_parameters() if not p.requires_grad}
    learning = {n.split(".")[0] for n, p in module.named_parameters() if p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"} and learning == {"layer3", "layer4"}
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("decay", [0.9, 0.15])
def test_the_average_follows_the_weights(decay: float) -> None:
    model = torch.nn.BatchNorm1d(2)
    average = Average(model, decay=decay)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked += 5
    previous = 1.0
    for update in range(1, 200):
        average.update(model)
        now = average.state["weight"][0].item()
        share = 1 - min(decay, (1 + update) / (10 + update))
        assert now == pytest.approx(previous + share * (3 - previous), rel=1e-5)
        previous = now
    assert previous == pytest.approx(3.0, abs=1e-3)
    assert average.state["num_batches_tracked"] == 5
    assert model.weight[0] == 3, "the model itself was changed"


def test_the_average_is_what_is_kept(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    start(data, tmp_path / "run", msgspec.structs.replace(CONFIG, val_every=1))
    last = load_checkpoint(tmp_path / "run" / "last.pt")
    assert last.training is not None and last.training["average_updates"] == 4
    name = "dense.detect.heat.weight"
    assert not torch.equal(last.model[name], last.training["live"][name])


def test_a_checkpoint_that_does_not_exist(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(InputError, match=r"no such checkpoint.*edgetl tune"):
            load_checkpoint(path)


def write_wrong(path: Path, kind: str) -> None:
    documents: dict[str, object] = {
        "a state dict": {"weight": torch.zeros(2)},
        "a tensor": torch.zeros(2),
        "another format": {"format": 99, "card": {}, "model": {}, "training": None},
        "a card with a hole": {"format": 2, "card": {"task": "detect"}, "model": {}, "training": None},
        "no weights": {"format": 2},
    }
    if kind in documents:
        torch.save(documents[kind], path)
    else:
        path.write_bytes({"empty": b"", "noise": b"\x80\x02garbage" * 9, "JSON": json.dumps({"a": 1}).encode()}[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "noise",
        "JSON",
        "a state dict",
        "a tensor",
        "another format",
        "a card with a hole",
        "no weights",
    ],
)
def test_other_files_are_no_checkpoints(tmp_path: Path, kind: str) -> None:
    write_wrong(tmp_path / "x.pt", kind)
    with pytest.raises(InputError, match=r"x\.pt: not an edgetl checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(run: Path, share: float) -> None:
    data = (run / "best.pt").read_bytes()
    (run / "best.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="not an edgetl checkpoint"):
        load_network(run)


@pytest.mark.parametrize("damage", ["a missing tensor", "another shape", "no weights"])
def test_weights_that_do_not_fit_the_card_are_refused(run: Path, damage: str) -> None:
    document = torch.load(run / "best.pt", weights_only=True)
    if damage == "a missing tensor":
        del document["model"]["dense.detect.heat.bias"]
    elif damage == "another shape":
        document["model"]["dense.detect.heat.bias"] = torch.zeros(7)
    else:
        del document["model"]
    torch.save(document, run / "best.pt")
    with pytest.raises(InputError, match=r"run.*: (its weights|not an edgetl checkpoint)"):
        load_network(run)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return _write, (str(self.path), "ran")


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_loading_runs_no_code(tmp_path: Path, form: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pt"
    document = {"format": 2, "card": Payload(proof), "model": {}, "training": None}
    if form == "torch":
        torch.save(document, path)
    else:
        path.write_bytes(pickle.dumps(document, protocol=2))
    with pytest.raises(InputError, match="not an edgetl checkpoint"):
        load_checkpoint(path)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists(), "the payload would not have run anyway"


def test_the_detector_of_a_checkpoint_gives_what_was_trained(run: Path) -> None:
    model, card = load_network(run)
    assert isinstance(model, Network)
    x = torch.zeros(1, 3, *card.preprocess.size_hw)
    with torch.inference_mode():
        again, _ = load_network(run / "best.pt")
        assert torch.equal(model(x).heads["detect"].heat, again(x).heads["detect"].heat)
