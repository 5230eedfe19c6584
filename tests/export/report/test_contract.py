"""What the page says of heads, training domain and trust in scores."""

from __future__ import annotations

from report_support import blocks, several

from edgetl_export.report.blocks import LineChart, Table
from edgetl_export.report.bundle import bundle_report
from edgetl_export.report.contract import contract_section, provenance_section, reliability_section
from edgetl_runtime.spec import Calibration, DomainStatistics, FileEntry, Reliability


def test_the_contract_names_every_head_with_its_thresholds_and_temperature() -> None:
    table = blocks(contract_section(several()), Table)[0]
    assert [list(row) for row in table.rows] == [
        ["detect", "detect", "vehicle, sign", "0.3", 1.0],
        ["drivable", "segment", "background, drivable", None, None],
        ["classify", "classify", "night, day", "0.6 night, 0.55 day", 1.4],
    ]


def test_the_training_domain_is_named_where_there_is_one() -> None:
    files = {n: FileEntry(sha256="ab" * 32, bytes=9) for n in ("a.onnx", "golden.npz", "domain.npz")}
    domain = DomainStatistics(file="domain.npz", output="embedding", images=480)
    assert "480 images" in bundle_report(several(files=files, domain=domain))
    assert "training domain" not in bundle_report(several())


def test_trust_in_scores_is_drawn_for_the_heads_that_were_calibrated() -> None:
    bins = ((0.3, 0.1, 40), (0.8, 0.6, 60))
    trust = Reliability(
        before=bins, after=((0.2, 0.1, 40), (0.6, 0.6, 60)), error_before=0.2, error_after=0.04, answers=100
    )
    (section,) = reliability_section(several(reliability={"classify": trust}))
    (chart,) = blocks(section, LineChart)
    assert chart.title == "Reliability of classify" and "0.200 as trained, 0.040 as shipped" in chart.caption
    assert [series.label for series in chart.series[1:]] == ["as trained", "as shipped"]
    assert list(chart.series[1].xs) == [0.3, 0.8] and list(chart.series[1].ys) == [0.1, 0.6]
    assert reliability_section(several()) == []


def test_the_calibration_frames_are_counted_by_kind() -> None:
    strata = {"light: dark": 3, "light: day": 61, "different: groups": 40, "class: vehicle": 64, "class: sign": 0}
    record = Calibration(frames=64, sha256="cd" * 32, strata=strata, method="percentile")
    section = provenance_section(several(calibration=record))
    assert [list(row) for row in blocks(section, Table)[0].rows] == [
        ["light", "dark 3, day 61"],
        ["different", "groups 40"],
        ["class", "vehicle 64, sign 0"],
    ]
    page = bundle_report(several(calibration=record))
    assert "64 percentile" in page and "cd" * 32 in page
    assert len(blocks(provenance_section(several()), Table)) == 1
