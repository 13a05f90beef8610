"""The plugins as they stand in the tree are tested, whether they are installed or not."""

import sys
from pathlib import Path

sys.path[:0] = sorted(str(path.parent) for path in Path(__file__).parent.glob("*/pyproject.toml"))
