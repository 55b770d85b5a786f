"""Properties are about what holds, not about how fast a busy machine finds out."""

from hypothesis import HealthCheck, settings

settings.register_profile("wisp", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wisp")
