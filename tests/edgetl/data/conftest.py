"""What the tests of datasets share: data_pictures.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds nothing, the tests import data_pictures
