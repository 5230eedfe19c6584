"""Every error that edgetl raises on purpose.

EdgetlError            one clear line for a person: what was expected, what was found, what to do
├── InputError         wrong usage or wrong input                       exit 2
│   └── UnfitBundle    a bundle that lacks what is asked of it          exit 2
├── MissingPackage     a package that this command needs is not here    exit 2
├── NotThereYet        a part that is designed but not built            exit 2
├── BundleError        a bundle that is incomplete, altered or foreign  exit 2
├── CameraError        a source that can't be opened or read            exit 2
├── EngineError        an engine that can't load or run a model         exit 2
│   └── UnfitProcessor a precision that this processor does not run     exit 2
└── GateFailed         a check on the model itself did not hold         exit 1
"""

from __future__ import annotations

MAX_CHARACTERS = 2000
"""Of an error as one line: what it quotes may be of any length."""


class EdgetlError(Exception):
    """An expected failure: `message` says what was wrong, `remedy` what to do, `code` is for programs."""

    code = "error"
    exit_status = 2

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """One line: the message, then the remedy after a semicolon.

        What it quotes may come from anyone, so characters that steer a terminal stand there escaped.
        """
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        line = " ".join(text.split())
        if not line.isprintable():
            line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 3]}..."


class InputError(EdgetlError):
    """Wrong usage, or input that is missing, empty, malformed or in the way."""

    code = "input"


class UnfitBundle(InputError):
    """A bundle that is whole and lacks what is asked of it, such as boxes to track."""


class MissingPackage(EdgetlError):
    """A package that this command needs is not installed."""

    code = "missing-package"

    def __init__(self, package: str, *, extra: str, jetpack: str = "") -> None:
        remedy = f"install it with: pip install 'edgetl[{extra}]'"
        if jetpack:
            remedy += f" (on a Jetson: apt install {jetpack})"
        super().__init__(f"the package {package!r} is not installed", remedy=remedy)


class NotThereYet(EdgetlError):
    """A part that is designed but not built yet."""

    code = "not-there-yet"


class BundleError(EdgetlError):
    """A bundle that is missing, incomplete, altered, or of another schema."""

    code = "bundle"


class CameraError(EdgetlError):
    """A camera, video or image directory that can't be opened or read."""

    code = "camera"


class NoSuchKind(CameraError):
    """A camera that can't be named so, or can't be asked for this: waiting for it would be of no use."""


class EngineError(EdgetlError):
    """An engine that is unknown, missing, or can't load or run the model."""

    code = "engine"


class UnfitProcessor(EngineError):
    """A precision that an engine does not run on this processor; others of the same bundle may run."""


class GateFailed(EdgetlError):
    """A check on the model itself did not hold, so nothing is shipped."""

    code = "gate"
    exit_status = 1
