"""Properties are tried on the same examples at every run; `--hypothesis-profile=random` draws others."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")
