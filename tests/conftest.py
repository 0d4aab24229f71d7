"""What all tests share: property tests without a stopwatch, the same examples on every machine."""

import os

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("EVALKIT_HYPOTHESIS", "steady"))
