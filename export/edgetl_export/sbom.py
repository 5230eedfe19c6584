"""The bundle's bill of materials, CycloneDX 1.6 as JSON: software, weights, data and files, with licences and hashes.

Format: https://cyclonedx.org/docs/1.6/json/. The same bundle and environment give the same bytes: there is no time
and no serial number in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgetl_export.licences import is_expression, is_spdx, one_licence, packages_of
from edgetl_runtime.bundle import Bundle, file_entry
from edgetl_runtime.errors import BundleError
from edgetl_runtime.files import staged_file
from edgetl_runtime.spec import Provenance

SBOM_NAME = "sbom.json"
NOT_STATED = "not stated"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of no bytes: what random weights have for a hash."""
INSIDE = "in the bundle"
LEARNT_FROM = "learnt from; a few of its frames are in the golden samples"
MADE_WITH = "made with, not in the bundle"
_KINDS = {".onnx": "network", ".npz": "arrays", ".txt": "labels"}
_MEASURED = {".html"}
"""Files about measurements, which differ from run to run."""


class _Part(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="camel"):
    """Base: what is empty is left out."""


class Hash(_Part, frozen=True, kw_only=True):
    """A hash of a file's bytes."""

    alg: str
    content: str


class Named(_Part, frozen=True, kw_only=True):
    """A licence by its SPDX identifier or in its publisher's words."""

    id: str = ""
    name: str = ""


class Licence(_Part, frozen=True, kw_only=True):
    """One licence, or an SPDX expression."""

    license: Named | None = None
    expression: str = ""

    @property
    def text(self) -> str:
        """For people."""
        return self.expression or (self.license.id or self.license.name if self.license else "")


class Property(_Part, frozen=True, kw_only=True):
    """A fact that CycloneDX has no field for."""

    name: str
    value: str


class Data(_Part, frozen=True, kw_only=True):
    """What kind of data a component of type `data` is."""

    type: str


class Component(_Part, frozen=True, kw_only=True):
    """One part of the bundle, or of what made it."""

    type: str
    name: str
    bom_ref: str = msgspec.field(default="", name="bom-ref")
    version: str = ""
    hashes: tuple[Hash, ...] = ()
    licenses: tuple[Licence, ...] = ()
    purl: str = ""
    data: tuple[Data, ...] = ()
    properties: tuple[Property, ...] = ()


class Tools(_Part, frozen=True, kw_only=True):
    """What wrote the bill."""

    components: tuple[Component, ...] = ()


class Metadata(_Part, frozen=True, kw_only=True):
    """What the bill is of."""

    tools: Tools | None = None
    component: Component | None = None


class Sbom(_Part, frozen=True, kw_only=True):
    """The whole bill."""

    bom_format: str
    spec_version: str
    version: int = msgspec.field(default=0)
    metadata: Metadata = Metadata()
    components: tuple[Component, ...] = ()


def write_sbom(folder: Path, *, name: str, provenance: Provenance, files: Sequence[Path]) -> Path:
    """Write sbom.json into `folder` for a bundle called `name` of these files. Returns its path."""
    packages = tuple(
        Component(
            type="library",
            name=p.name,
            version=p.version,
            bom_ref=f"package:{p.name}",
            purl=f"pkg:pypi/{p.name}@{p.version}",
            licenses=_licences(p.licences),
        )
        for p in packages_of({"edgetl": provenance.edgetl} | provenance.packages)
    )
    bill = Sbom(
        bom_format="CycloneDX",
        spec_version="1.6",
        version=1,
        metadata=Metadata(
            tools=Tools(components=(Component(type="application", name="edgetl", version=provenance.edgetl),)),
            component=Component(type="machine-learning-model", name=name, bom_ref="bundle"),
        ),
        components=(_weights(provenance), _dataset(provenance), *_files(folder, files), *packages),
    )
    target = folder / SBOM_NAME
    with staged_file(target, force=True) as temporary:
        text = json.dumps(msgspec.to_builtins(bill), sort_keys=True, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return target


def _weights(provenance: Provenance) -> Component:
    known = provenance.weights_sha256 not in {"", EMPTY_SHA256}
    licences = one_licence(provenance.weights_licence)
    if not known and provenance.weights_licence == "none":
        licences = ("none needed",)
    return Component(
        type="machine-learning-model",
        name=provenance.weights or NOT_STATED,
        bom_ref="weights",
        hashes=(Hash(alg="SHA-256", content=provenance.weights_sha256),) if known else (),
        licenses=_licences(licences),
        properties=(Property(name="edgetl:architecture", value=provenance.architecture),),
    )


def _dataset(provenance: Provenance) -> Component:
    """The fingerprint is of names and sizes too, so that it is no hash of one file."""
    return Component(
        type="data",
        name=provenance.dataset or NOT_STATED,
        bom_ref="dataset",
        data=(Data(type="dataset"),),
        properties=(Property(name="edgetl:fingerprint-sha256", value=provenance.dataset_sha256),),
    )


def _files(folder: Path, files: Sequence[Path]) -> tuple[Component, ...]:
    """Every file but those about measurements."""
    kept = sorted((p for p in files if p.suffix not in _MEASURED), key=lambda p: p.relative_to(folder).as_posix())
    return tuple(
        Component(
            type="file",
            name=path.relative_to(folder).as_posix(),
            bom_ref=f"file:{path.relative_to(folder).as_posix()}",
            hashes=(Hash(alg="SHA-256", content=file_entry(path).sha256),),
            properties=(Property(name="edgetl:kind", value=_KINDS.get(path.suffix, "other")),),
        )
        for path in kept
    )


def _licences(names: Sequence[str]) -> tuple[Licence, ...]:
    """CycloneDX takes either one expression or any number of licences."""
    if len(names) == 1 and is_expression(names[0]):
        return (Licence(expression=names[0]),)
    return tuple(Licence(license=Named(id=n) if is_spdx(n) else Named(name=n)) for n in names)


def read_sbom(bundle: Bundle) -> Sbom | None:
    """The bill in a bundle, or None where it has none. Raises BundleError for one that can't be read."""
    if SBOM_NAME not in bundle.manifest.files:
        return None
    path = bundle.file(SBOM_NAME)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sbom)
    except OSError as error:
        raise BundleError(f"can't read {path}: {error.strerror}", remedy="check its permissions") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is no bill of materials: {error}", remedy="export the bundle again") from error


def licence_list(bill: Sbom) -> Mapping[str, Mapping[str, list[str]]]:
    """What is in the bundle and what made it: licence to the parts under it, by name; unstated ones last."""
    of_type = {"machine-learning-model": INSIDE, "data": LEARNT_FROM, "library": MADE_WITH}
    groups: dict[str, dict[str, list[str]]] = {name: {} for name in of_type.values()}
    for part in bill.components:
        if part.type in of_type:
            licence = ", ".join(x.text for x in part.licenses) or NOT_STATED
            group = groups[of_type[part.type]].setdefault(licence, [])
            group.append(f"{part.name} {part.version}".rstrip())
    ordered = {name: dict(sorted(g.items(), key=lambda kv: (kv[0] == NOT_STATED, kv[0]))) for name, g in groups.items()}
    return {name: group for name, group in ordered.items() if group}
