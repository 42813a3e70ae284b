"""``python -m memshare_jupyter``: the same as the command ``memshare``."""

from __future__ import annotations

import sys

from memshare_jupyter.cli import main

sys.exit(main())
