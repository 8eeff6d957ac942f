"""How many examples hypothesis draws: HYPOTHESIS_PROFILE=dev (the default), ci or thorough."""

import os

from hypothesis import HealthCheck, settings

for name, examples in {"dev": 15, "ci": 40, "thorough": 500}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],  # two slow cores are no fault of a test
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
