"""The policy of a pool that brings no EndpointPickerConfig: the service's own settings."""

from pointsman_common.plugin_catalogue import build_plugin
from pointsman_flow_controller.core.flow_policy import BandPolicy, FlowPolicy
from pointsman_flow_controller.core.flow_policy_reader import Catalogue
from pointsman_flow_controller.settings import FlowControllerSettings


def own_policy(settings: FlowControllerSettings, catalogue: Catalogue) -> FlowPolicy:
    """Raises SettingsError for a policy that does not exist."""
    fairness, ordering = settings.fairness_policy, settings.ordering_policy
    band = BandPolicy(
        make_fairness=lambda: build_plugin(catalogue.fairness, fairness, fairness, None),
        ordering=build_plugin(catalogue.ordering, ordering, ordering, None),
        max_requests=settings.band_capacity_requests,
        max_bytes=settings.band_capacity_bytes,
    )
    band.make_fairness()
    utilization = {
        "queueDepthThreshold": settings.queue_depth_threshold,
        "kvCacheUtilThreshold": settings.kv_cache_threshold,
        "metricsStalenessThreshold": f"{settings.metrics_stale_after_s:.6f}s",
    }
    return FlowPolicy(
        make_detector=lambda: build_plugin(
            catalogue.saturation, "utilization-detector", "utilization-detector", utilization
        ),
        make_usage_limit=lambda: build_plugin(
            catalogue.usage_limits, "static-usage-limit-policy", "static-usage-limit-policy", None
        ),
        band=band,
        negative_band=band,
        queueing=settings.flow_control != "off",
        ttl_s=settings.queue_ttl_s,
        no_endpoint_ttl_s=settings.no_endpoint_queue_ttl_s,
        max_requests=settings.capacity_requests,
        max_bytes=settings.capacity_bytes,
    )
