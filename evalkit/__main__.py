"""`python -m evalkit`: the same command line."""

import sys

from evalkit.cli.main import main

sys.exit(main())
