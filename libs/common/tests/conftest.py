from hypothesis import settings

# A busy machine is no failure: what must be fast is measured in tests/load.
settings.register_profile("pointsman", deadline=None)
settings.load_profile("pointsman")
