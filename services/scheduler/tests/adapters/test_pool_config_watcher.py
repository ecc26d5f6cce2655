from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import POOL, a_pool_config, an_endpoint
from pointsman_scheduler.adapters.pool_config_watcher import PoolConfigWatcher
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.testing import QK, Desk, a_config


def publish(desk: Desk, text: str, hash_: str) -> None:
    pool = InferencePool(name=POOL, hash=hash_, endpoint_picker_config=text)
    desk.view.apply_config(a_pool_config(pool))


def test_a_published_configuration_is_taken_over() -> None:
    desk, metrics = Desk([an_endpoint(1)]), Metrics()
    PoolConfigWatcher(desk.view, desk.picking, metrics)
    publish(desk, QK, "h2")
    hash_ = desk.picking.pools[POOL].config.hash
    assert desk.picking.pools[POOL].config.text == QK
    labels = {"pool": POOL, "config_hash": hash_}
    assert metrics.registry.get_sample_value("pointsman_scheduler_config_info", labels) == 1.0


def test_a_pool_that_is_gone_leaves_no_series_and_is_read_anew_when_it_is_back() -> None:
    desk, metrics = Desk([an_endpoint(1)]), Metrics()
    PoolConfigWatcher(desk.view, desk.picking, metrics)
    publish(desk, QK, "h2")
    labels = {"pool": POOL, "config_hash": desk.picking.pools[POOL].config.hash}
    desk.view.forget(POOL)
    name = "pointsman_scheduler_config_info"
    assert metrics.registry.get_sample_value(name, labels) is None
    publish(desk, QK, "h2")
    assert metrics.registry.get_sample_value(name, labels) == 1.0


def test_a_bad_configuration_is_counted_and_the_old_one_stays() -> None:
    desk, metrics = Desk([an_endpoint(1)]), Metrics()
    PoolConfigWatcher(desk.view, desk.picking, metrics)
    publish(desk, QK, "h2")
    publish(desk, a_config("surprise-scorer"), "h3")
    desk.say([an_endpoint(1), an_endpoint(2)])  # another change does not try again
    assert desk.picking.pools[POOL].config.text == QK
    name = "pointsman_scheduler_config_refused_total"
    assert metrics.registry.get_sample_value(name, {"pool": POOL}) == 1.0
    publish(desk, "", "h4")
    assert desk.picking.pools[POOL].config.text != QK
