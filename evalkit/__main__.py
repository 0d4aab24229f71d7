"""`python -m evalkit`: the same command line."""

import sys

from evalkit.cli import main

sys.exit(main())
