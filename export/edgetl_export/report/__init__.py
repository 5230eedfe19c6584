"""One offline HTML page that says what was built, how it was measured, and what is not known."""

from __future__ import annotations
