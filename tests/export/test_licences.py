"""Licences of packages: what their metadata says, in SPDX where that is beyond doubt."""

from __future__ import annotations

import importlib.metadata
from email.message import Message
from pathlib import Path

import pytest

from edgetl_export.licences import is_expression, is_spdx, licences_of, normalised, one_licence, packages_of

APACHE = "License :: OSI Approved :: Apache Software License"
BSD = "License :: OSI Approved :: BSD License"
MIT = "License :: OSI Approved :: MIT License"


def metadata(
    *, expression: str = "", own: str = "", classifiers: tuple[str, ...] = ()
) -> importlib.metadata.PackageMetadata:
    message = Message()
    if expression:
        message["License-Expression"] = expression
    if own:
        message["License"] = own
    for classifier in ("Topic :: Scientific/Engineering", *classifiers):
        message["Classifier"] = classifier
    return message  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (metadata(), ()),
        (metadata(own="UNKNOWN"), ()),
        (metadata(own="MIT"), ("MIT",)),
        (metadata(own="Apache 2.0"), ("Apache-2.0",)),
        (metadata(own="BSD"), ("BSD",)),
        (metadata(own="MIT License\n\nCopyright (c) somebody\n"), ("MIT",)),
        (metadata(own="Copyright (c) 2001 somebody\nAll rights reserved."), ()),
        (metadata(own="x" * 100), ()),
        (metadata(classifiers=(APACHE,)), ("Apache-2.0",)),
        (metadata(classifiers=(MIT, APACHE)), ("Apache-2.0", "MIT")),
        (metadata(classifiers=(BSD,)), ("BSD License",)),
        (metadata(classifiers=(BSD,), own="BSD-3-Clause"), ("BSD-3-Clause",)),
        (metadata(classifiers=(MIT, BSD)), ("BSD License", "MIT License")),
        (metadata(expression="MPL-2.0 AND MIT", own="x", classifiers=(APACHE,)), ("MPL-2.0 AND MIT",)),
        (metadata(classifiers=("License :: Other/Proprietary License",), own="Proprietary"), ("Proprietary",)),
    ],
)
def test_what_a_package_says(given: importlib.metadata.PackageMetadata, found: tuple[str, ...]) -> None:
    assert licences_of(given) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("apache-2.0", "Apache-2.0"), ("cc-by-nc-4.0", "CC-BY-NC-4.0"), ("nvidia-source-code-license-nc", None)],
)
def test_one_licence(text: str, found: str | None) -> None:
    assert one_licence(text) == (found or text,)
    assert is_spdx(one_licence(text)[0]) == (found is not None)


@pytest.mark.parametrize("text", ["", " \n", "not stated", "None", "unknown"])
def test_no_licence(text: str) -> None:
    assert one_licence(text) == ()


def test_expressions() -> None:
    assert is_expression("Apache-2.0 WITH LLVM-exception AND (MIT OR BSD-3-Clause)")
    assert not any(is_expression(t) for t in ("MIT", "BSD License", "", "Apache 2.0 license", "MIT AND"))


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", "License: MIT", *(f"Requires-Dist: {r}" for r in requires)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def test_what_is_needed_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        "zz-top",
        "1.0",
        "ZZ.Middle[gpu, fast]>=2; python_version > '3'",
        "zz-absent",
        "zz-dev; extra == 'dev'",
    )
    install(tmp_path, "zz-middle", "2.5", "zz-base (>=1)", "zz-gpu~=1.0 ; extra == 'gpu'", 'zz-slow; extra == "slow"')
    install(tmp_path, "zz-base", "3.0", "zz-top")
    for name in ("zz-gpu", "zz-slow", "zz-dev", "zz-unrelated"):
        install(tmp_path, name, "0.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = packages_of({"zz_top": "0.9", "zz-lost": "7"})
    assert [(p.name, p.version) for p in found] == [
        ("zz-base", "3.0"),
        ("zz-gpu", "0.1"),
        ("zz-lost", "7"),
        ("zz-middle", "2.5"),
        ("zz-top", "1.0"),
    ]
    assert {p.name: p.licences for p in found}["zz-lost"] == () and found[0].licences == ("MIT",)
    assert packages_of({}) == []


def test_names_are_the_indexs() -> None:
    assert normalised("Ruamel.Yaml__clib-x") == "ruamel-yaml-clib-x"
