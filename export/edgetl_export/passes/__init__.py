"""Graph passes: each says what it requires and what it ensures."""

from __future__ import annotations
