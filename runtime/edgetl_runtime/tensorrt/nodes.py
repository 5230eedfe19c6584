"""Nodes of an ONNX file, for messages that name one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the ONNX file: its operator, its name, and the module of the network that it comes from."""

    op: str
    name: str
    module: str


class Nodes(Protocol):
    """Look-ups in the ONNX file, for messages that name one of its nodes."""

    @property
    def count(self) -> int:
        """How many nodes there are."""

    def find(self, name: str, index: int, op: str) -> Node | None:
        """The node that a parser error names."""

    def named_in(self, text: str) -> Node | None:
        """The node whose name stands in a free text."""
