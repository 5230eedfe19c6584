"""edgetl_export: a trained network in, a verified bundle out."""

from __future__ import annotations
