"""Settings of the whole test run."""

from hypothesis import settings

# The machine may be busy with the other workers: a slow example is not a failing one.
settings.register_profile("pointsman", deadline=None)
settings.load_profile("pointsman")
