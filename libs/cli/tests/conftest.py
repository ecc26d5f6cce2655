"""Imports Envoy's generated messages once, deaf to their own deprecation warnings."""

import warnings

with warnings.catch_warnings():
    # The generated code uses a form of validator that pydantic has deprecated since.
    warnings.simplefilter("ignore")
    import pointsman_cli.core.envoy_config  # noqa: F401
