"""What a report is made of: plain data, no HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["neutral", "good", "warn", "bad"]
MISSING = "–"


@dataclass(frozen=True, slots=True)
class Badge:
    """A short word with a colour, and a mark that does not need the colour."""

    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a fixed-width face: a hash, a path, a tensor's shape."""

    text: str


@dataclass(frozen=True, slots=True)
class Num:
    """A number that is already text, e.g. "5.60 ms"; it aligns right."""

    text: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Phrases that stand below one another in one cell."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Change:
    """A gain or loss, as text with its sign and as a bar from the middle; scale: what fills half the bar."""

    value: float
    scale: float

    @property
    def text(self) -> str:
        """With its sign and two decimals; no sign where nothing changed."""
        return f"{self.value + 0.0:+.2f}".replace("-", "−") if abs(self.value) >= 0.005 else "0.00"


Cell = str | int | float | bool | None | Badge | Code | Num | Lines | Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; numbers align right, None and NaN show as a dash. highlight: indices of rows that matter most.

    fold: what a table is called that only opens when it is asked for; empty where it is always open.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    highlight: frozenset[int] = frozenset()
    fold: str = ""

    def __post_init__(self) -> None:
        wrong = [i for i, row in enumerate(self.rows) if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"Table has {len(self.columns)} columns; rows {wrong} have another number of cells")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart. A NaN or None in `ys` leaves a gap."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float | None]

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"Series {self.label!r} has {len(self.xs)} xs and {len(self.ys)} ys")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over a common x axis; the numbers are also in the page as a table that opens."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    caption: str = ""
    y_from_zero: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: `value` as its length, `whisker` as a line that reaches further (a p99), `note` behind it."""

    label: str
    value: float | None
    whisker: float | None = None
    note: str = ""
    highlight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Horizontal bars from zero, in the order given. numbers: give them as a table that opens, too."""

    title: str
    unit: str
    bars: Sequence[Bar]
    caption: str = ""
    value_name: str = "value"
    whisker_name: str = ""
    numbers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One named place. low, high: an interval of y; highlight: the one that was chosen.

    named: whether its name is written beside it; refused: drawn hollow, as `ScatterChart.refused_label` explains.
    """

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    highlight: bool = False
    named: bool = True
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Points where a small x and a large y are good, joined where none is better in both.

    limit: an x not to pass. floor: a y not to fall below.
    """

    title: str
    x_label: str
    y_label: str
    points: Sequence[Point]
    caption: str = ""
    limit: float | None = None
    limit_label: str = ""
    floor: float | None = None
    floor_label: str = ""
    refused_label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A JPEG or PNG file's bytes. alt: what it shows, for those who do not see it."""

    image: bytes
    caption: str = ""
    alt: str = ""

    @property
    def media_type(self) -> str:
        """image/jpeg or image/png. Raises ValueError for anything else."""
        if self.image.startswith(b"\xff\xd8"):
            return "image/jpeg"
        if self.image.startswith(b"\x89PNG"):
            return "image/png"
        raise ValueError("Picture.image must be the bytes of a JPEG or PNG file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Pictures in a grid. pairs: two in a row, which belong together."""

    pictures: Sequence[Picture]
    caption: str = ""
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs of plain text."""

    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Note:
    """One remark that should not be overlooked."""

    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One big number: what it is, and what it is measured against."""

    value: str
    label: str
    detail: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """A row of big numbers."""

    figures: Sequence[KeyFigure]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and their values, one a line."""

    pairs: Sequence[tuple[str, Cell]]


Block = Table | LineChart | BarChart | ScatterChart | Gallery | Text | Note | KeyFigures | Facts


def significant(value: float, digits: int = 3) -> str:
    """A measured number with exactly `digits` significant digits, trailing zeros kept: 7.00, 18.0, 0.42."""
    if not math.isfinite(value) or value == 0 or not 1e-3 <= abs(value) < 10**digits:
        return number(value, digits)
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}".replace("-", "−")


def number(value: float, digits: int = 4) -> str:
    """A number for reading: thousands apart, `digits` significant, small ones as powers; NaN as a dash."""
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f").replace("-", "−")
    if abs(value) < 1e-3 or abs(value) >= 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    whole = len(str(int(abs(value))))
    decimals = max(digits - whole, 0) if abs(value) >= 1 else digits - 1
    return f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "−")
