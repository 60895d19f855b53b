"""Properties are tried on the same examples at every run; `--hypothesis-profile=random` draws others."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")
