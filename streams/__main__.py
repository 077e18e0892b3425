"""``python -m streams`` is ``fairstream``."""

import sys

from streams.cli import main

sys.exit(main())
