"""The decoders by the names that a spec file calls them."""

from __future__ import annotations

from edgetl_export.foreign.decoders.classification import Classification
from edgetl_export.foreign.decoders.decoder import Decoder, Output
from edgetl_export.foreign.decoders.detr import Detr
from edgetl_export.foreign.decoders.fastestdet import FastestDet
from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.decoders.ssd import Ssd
from edgetl_export.foreign.decoders.twinlitenet import TwinLiteNet
from edgetl_export.foreign.decoders.yolo import Yolo
from edgetl_export.foreign.decoders.yolox import Yolox

AnyDecoder = Classification | Segmentation | Yolo | Yolox | Ssd | Detr | FastestDet | TwinLiteNet

DECODERS: dict[str, type[AnyDecoder]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "yolo": Yolo,
    "yolox": Yolox,
    "ssd": Ssd,
    "detr": Detr,
    "fastestdet": FastestDet,
    "twinlitenet": TwinLiteNet,
}


def decoder_name(decoder: Decoder) -> str:
    """What a spec file calls it."""
    return str(type(decoder).__struct_config__.tag)


__all__ = ["DECODERS", "AnyDecoder", "Decoder", "Output", "decoder_name"]
