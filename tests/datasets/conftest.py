"""Makes what the tests of scripts share importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
