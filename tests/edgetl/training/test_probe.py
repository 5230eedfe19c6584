"""The probe: new parts learn on frozen features, which are computed once."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import msgspec
import pytest
import torch

from edgetl.data import Dataset, read_dataset
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.heads.kind import Kind
from edgetl.metrics.predict import Frames, evaluate
from edgetl.models.backbone import build_backbone
from edgetl.models.infer import TorchInfer
from edgetl.models.network import Network
from edgetl.training.batches import letterboxed_labels
from edgetl.training.config import TuneConfig
from edgetl.training.optimise import rate_at
from edgetl.training.probe import ProbeEpoch, probe
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TuneConfig(size_hw=(64, 96), crop_hw=(64, 96), probe_epochs=2, batch=2)
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(127.0,) * 3, std=(128.0,) * 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))


def made(data: Dataset, tasks: tuple[str, ...], weights: str = "none") -> tuple[Network, tuple[Kind, ...]]:
    torch.manual_seed(0)
    kinds = kinds_of(heads_for(data, tasks, mask_stride=4), data)
    backbone = build_backbone("tf_efficientnet_lite0", weights, fold=weights != "none")
    return network_of(backbone, kinds), kinds


def run(network: Network, kinds: tuple[Kind, ...], data: Dataset, config: TuneConfig) -> list[ProbeEpoch]:
    rows: list[ProbeEpoch] = []
    probe(network, kinds, data, PREPROCESS, config, after_each=lambda: None, on_epoch=rows.append)
    return rows


def test_only_new_parts_learn(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("detect", "segment"))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    rows = run(network, kinds, data, CONFIG)
    after = network.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in after.items() if k.startswith("backbone."))
    assert any(not torch.equal(v, before[k]) for k, v in after.items() if k.startswith("neck."))
    norm = "neck.lateral.0.1.running_mean"
    assert not torch.equal(after[norm], before[norm]), "the new norms must see the data"
    assert all(
        not torch.equal(v, before[k]) for k, v in after.items() if k.startswith("dense.") and k.endswith("weight")
    )
    assert not network.training
    assert [(r.epoch, r.step) for r in rows] == [(0, -3), (1, 0)], "steps before the fine-tuning are negative"
    assert set(rows[0].parts) == {"detect_heat", "detect_box", "ground_mask", "ground_dice"}


def test_rates_warm_up_and_fall(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("segment",))
    rates = [row.lr for row in run(network, kinds, data, CONFIG)]
    wanted = [CONFIG.probe_lr * rate_at(step, 6, warmup=2) for step in (2, 5)]
    assert rates == pytest.approx(wanted) and rates[1] < 0.2 * rates[0]


def test_heads_are_balanced(scenes: Path) -> None:
    """Each loss counts as one at first, however large it is."""
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("detect", "segment"))
    (row,) = run(network, kinds, data, msgspec.structs.replace(CONFIG, probe_epochs=1, batch=6))
    assert row.loss == pytest.approx(2) and sum(row.parts.values()) > 3


def test_the_backbone_sees_each_image_once(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("segment",))
    seen: list[int] = []
    network.backbone.register_forward_hook(lambda m, x, y: seen.append(len(x[0])))
    run(network, kinds, data, CONFIG)
    assert sum(seen) == len(data)
    again, kinds = made(data, ("detect",))
    again.backbone.register_forward_hook(lambda m, x, y: seen.append(len(x[0])))
    run(again, kinds, data, CONFIG)
    assert sum(seen) == len(data), "another task asks for the same features"


def test_memory_does_not_grow_with_the_number_of_images(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("detect", "segment"))
    run(network, kinds, data, CONFIG)  # features are in the cache, and all is imported
    held: list[int] = []

    def after(row: ProbeEpoch) -> None:
        held.append(tracemalloc.get_traced_memory()[0])

    for times in (2, 12):
        many = dataclasses.replace(data, samples=data.samples * times)
        tracemalloc.start()
        probe(network, kinds, many, PREPROCESS, CONFIG, after_each=lambda: None, on_epoch=after)
        tracemalloc.stop()
    one = sum(a.nbytes for k in kinds for a in k.targets(letterboxed_labels(data, 0, PREPROCESS)))
    assert held[3] - held[1] < 10 * len(data) * one / 2, "the targets of all images are held"


def test_one_seed_one_result(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    states = []
    for seed in (0, 0, 5):
        network, kinds = made(data, ("segment",))
        run(network, kinds, data, msgspec.structs.replace(CONFIG, seed=seed))
        states.append(network.state_dict()["dense.ground.logits.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_pretrained_features_tell_signs_apart(signs: Path) -> None:
    data, val = read_dataset(signs, "train"), read_dataset(signs, "val")
    network, kinds = made(data, ("classify",), weights="package")
    run(network, kinds, data, msgspec.structs.replace(CONFIG, probe_epochs=15, batch=8))
    found = evaluate(TorchInfer(network, kinds, PREPROCESS), Frames(val, PREPROCESS), kinds)
    assert found.value == 1.0


def test_what_after_each_raises_ends_it(scenes: Path, tmp_path: Path) -> None:
    data = read_dataset(scenes, "train")
    network, kinds = made(data, ("segment",))
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(network, kinds, data, PREPROCESS, CONFIG, after_each=stop, on_epoch=lambda row: None)
    assert not list((tmp_path / "cache" / "maps").iterdir()), "half of the features are no features"
    assert len(run(network, kinds, data, CONFIG)) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_images_than_a_batch(scenes: Path, count: int) -> None:
    data = read_dataset(scenes, "train")
    data = dataclasses.replace(data, samples=data.samples[:count])
    network, kinds = made(data, ("detect", "segment"))
    rows = run(network, kinds, data, msgspec.structs.replace(CONFIG, batch=4))
    assert [r.step for r in rows] == [-1, 0]
