"""Light: each effect does what it says, and nothing where it is off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgetl.training.augment import AugmentConfig
from edgetl.training.light import Look, Stage, apply_look, draw_look, motion_kernel

STAGE = Stage(0.0, 0.0, 160.0, 96.0)


@pytest.fixture
def picture() -> torch.Tensor:
    """Smooth noise, (3, 96, 160)."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(20, 235, (1, 3, 12, 20)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (96, 160), mode="bilinear")[0].to(torch.uint8)


def flat(level: int) -> torch.Tensor:
    return torch.full((3, 96, 160), level, dtype=torch.uint8)


def shown(image: torch.Tensor, look: Look, *, stage: Stage | None = STAGE, seed: int = 0) -> torch.Tensor:
    kept = image.clone()
    out = apply_look(image, look, np.random.default_rng(seed), stage)
    assert torch.equal(image, kept), "the input was written to"
    assert out.dtype == torch.uint8
    assert out.shape == image.shape
    return out


def test_the_plain_look_changes_nothing(picture: torch.Tensor) -> None:
    assert torch.equal(shown(picture, Look()), picture)


@pytest.mark.parametrize(
    "look",
    [
        Look(gamma=1.2),
        Look(brightness=0.8),
        Look(contrast=1.3),
        Look(balance=(1.1, 1.0, 0.9)),
        Look(saturation=0.5),
        Look(headlights=0.4),
        Look(fog=0.1),
        Look(defocus=1.0),
        Look(motion=(5.0, 0.3)),
        Look(grain=6.0),
        Look(jpeg=30),
    ],
)
def test_each_effect_alone_changes_the_picture_and_repeats(picture: torch.Tensor, look: Look) -> None:
    out = shown(picture, look)
    change = (out.float() - picture.float()).abs().mean()
    assert 0.2 < change < 90
    assert torch.equal(out, shown(picture, look))


def test_levels_with_known_answers() -> None:
    assert int(shown(flat(100), Look(brightness=1.3))[0, 0, 0]) == 130
    assert int(shown(flat(100), Look(contrast=0.5, pivot=60))[0, 0, 0]) == 80
    assert int(shown(flat(100), Look(brightness=0.5, contrast=2.0, pivot=100))[0, 0, 0]) == 50
    assert shown(flat(100), Look(balance=(1.1, 1.0, 0.9)))[:, 0, 0].tolist() == [110, 100, 90]
    assert int(shown(flat(100), Look(gamma=2.0))[0, 0, 0]) == round(100**2 / 255)
    assert int(shown(flat(200), Look(brightness=2.0))[0, 0, 0]) == 255


def test_headlights_light_the_road_and_leave_the_sky() -> None:
    out = shown(flat(200), Look(headlights=0.25)).float()[0]
    assert out[69, 80] > 190
    assert out[:10].max() < 60
    assert out[69, 0] < out[69, 40] < out[69, 80]
    assert torch.equal(shown(flat(200), Look(headlights=0.25), stage=None), flat(200))


def test_fog_takes_contrast_with_distance() -> None:
    stripes = flat(40)
    stripes[:, :, ::2] = 120
    out = shown(stripes, Look(fog=0.08)).float()[0]
    contrast = out[:, 0::2].mean(1) - out[:, 1::2].mean(1)
    assert contrast[-1] > 70
    assert 20 < contrast[0] < 45
    assert (contrast.diff() >= -1).all()
    even = shown(stripes, Look(fog=0.08), stage=None).float()[0]
    assert (even[0] - even[-1]).abs().max() == 0


def test_grain_has_its_strength_and_grows_with_light() -> None:
    stds = [float(shown(flat(level), Look(grain=6.0)).float().std()) for level in (20, 128, 230)]
    assert stds[0] < stds[1] < stds[2]
    assert stds[1] == pytest.approx(6.0, rel=0.15)
    assert not torch.equal(shown(flat(128), Look(grain=6.0)), shown(flat(128), Look(grain=6.0), seed=1))


@pytest.mark.parametrize("length", [1.5, 3.0, 6.5])
def test_motion_blurs_along_its_direction_only(length: float) -> None:
    along, across = motion_kernel(length, 0.0), motion_kernel(length, np.pi / 2)
    assert along.sum() == pytest.approx(1.0)
    assert along.shape[0] % 2 == 1
    middle = along.shape[0] // 2
    assert along[middle].sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(across, along.T, atol=1e-6)
    columns = np.arange(along.shape[1])
    spread = np.sqrt((along.sum(0) * (columns - middle) ** 2).sum())
    assert spread == pytest.approx(length / np.sqrt(12), rel=0.45)
    assert (along.sum(0) * columns).sum() == pytest.approx(middle, abs=1e-4)


def test_what_is_dark_or_bright_goes_no_further_and_is_not_turned_to_night() -> None:
    config = AugmentConfig(night=0.5, fog=0.5, brightness=0.3)
    for seed in range(40):
        dark = draw_look(config, np.random.default_rng(seed), mean=30.0, height=96)
        assert dark.headlights == 1
        assert dark.fog == 0
        assert dark.brightness >= 1
        day = draw_look(config, np.random.default_rng(seed), mean=110.0, height=96)
        assert (day.headlights < 1) != (day.fog > 0)
        bright = draw_look(
            dataclasses.replace(config, night=0, fog=0), np.random.default_rng(seed), mean=200.0, height=96
        )
        assert bright.brightness <= 1


def test_night_has_the_levels_of_nights_on_record() -> None:
    """Night frames of a dashcam have means of 9 to 33 of 255, their road 14 to 59, by day 82 to 134."""
    config = AugmentConfig(night=1.0)
    for seed in range(30):
        look = dataclasses.replace(draw_look(config, np.random.default_rng(seed), mean=110.0, height=96), jpeg=0)
        out = shown(flat(110), look).float()
        assert 10 < out.mean() < 50
        assert out[:, 60:80, 60:100].mean() > 1.5 * out[:, :20].mean()


def test_lamps_are_mostly_warm_and_night_has_grain_and_no_contrast_added() -> None:
    config = AugmentConfig(night=1.0)
    looks = [draw_look(config, np.random.default_rng(s), mean=110.0, height=96) for s in range(200)]
    assert np.mean([v.balance[0] > v.balance[2] for v in looks]) == pytest.approx(0.7, abs=0.1)
    assert all(2 <= v.grain <= 7 and v.contrast == 1 for v in looks)


def test_motion_lies_mostly_along_the_rows_and_is_short() -> None:
    config = dataclasses.replace(AugmentConfig(), blur=0, motion=1.0)
    looks = [draw_look(config, np.random.default_rng(s), mean=110.0, height=400) for s in range(400)]
    assert np.mean([abs(v.motion[1]) < 0.8 for v in looks]) == pytest.approx(0.7, abs=0.06)
    lengths = [v.motion[0] for v in looks]
    assert 2 <= min(lengths) < 2.5 and 8.3 < max(lengths) <= 8.8


def test_colours_keep_their_order_through_jpeg() -> None:
    picture = torch.tensor([200, 120, 40], dtype=torch.uint8)[:, None, None].expand(3, 96, 160).contiguous()
    out = shown(picture, Look(jpeg=80)).float().mean((1, 2))
    torch.testing.assert_close(out, torch.tensor([200.0, 120.0, 40.0]), atol=5, rtol=0)


def test_chances_are_kept() -> None:
    config = AugmentConfig()
    looks = [draw_look(config, np.random.default_rng(s), mean=110.0, height=352) for s in range(1500)]
    shares = {
        "night": np.mean([v.headlights < 1 for v in looks]),
        "fog": np.mean([v.fog > 0 for v in looks]),
        "blur": np.mean([v.defocus > 0 for v in looks]),
        "motion": np.mean([v.motion[0] > 0 for v in looks]),
        "jpeg": np.mean([v.jpeg > 0 for v in looks]),
    }
    for name, share in shares.items():
        assert share == pytest.approx(getattr(config, name), abs=0.025), name
    off = dataclasses.replace(config, night=0, fog=0, blur=0, motion=0, noise=0, jpeg=0)
    for seed in range(50):
        look = draw_look(off, np.random.default_rng(seed), mean=110.0, height=352)
        assert (look.headlights, look.fog, look.defocus, look.motion[0], look.grain, look.jpeg) == (1, 0, 0, 0, 0, 0)
