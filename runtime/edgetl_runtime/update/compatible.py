"""Whether a bundle can take another's place: for this device, and for whoever reads its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.build import tensorrt_variants
from edgetl_runtime.engines import available_engines, choose
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import task_of

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.spec import EngineName, Head, Manifest


def check_engine(bundle: Bundle, *, variant: str | None, engine: str | None) -> EngineName:
    """The engine that would run here. Raises EngineError for a pair that the bundle has not, InputError without the
    engine's package on this device. TensorRT's variant is found once its engines are built."""
    wanted = engine or bundle.manifest.chosen.engine
    if wanted == "tensorrt":
        tensorrt_variants(bundle, variant)
        name: EngineName = "tensorrt"
    else:
        name = choose(bundle, variant=variant, engine=engine)[1]
    here = available_engines()
    if name not in here:
        raise InputError(
            f"the bundle runs on {name}, which this device lacks; it has {', '.join(here) or 'none'}",
            remedy="give --engine and --variant of the bundle that run here, as `edgetl run` will be given them",
        )
    return name


def check_heads(old: Manifest, new: Manifest) -> None:
    """Refuse a bundle whose results would read differently. Raises InputError that lists every difference."""
    if found := differences(old.heads, new.heads):
        raise InputError(
            f"the bundle does not say what the current one says: {'; '.join(found)}",
            remedy="give --allow-change where everything that reads its results is ready for that",
        )


def differences(old: tuple[Head, ...], new: tuple[Head, ...]) -> list[str]:
    """What a reader of the old heads' results would miss or mistake, a line each; a further head is none."""
    there = {head.name: head for head in new}
    found = []
    for head in old:
        other = there.get(head.name)
        if other is None:
            found.append(f"the head {head.name} is gone")
        elif task_of(other) != task_of(head):
            found.append(f"the head {head.name} was {task_of(head)} and is {task_of(other)}")
        elif other.labels != head.labels:
            found.append(f"the labels of {head.name} were {', '.join(head.labels)} and are {', '.join(other.labels)}")
    return found
