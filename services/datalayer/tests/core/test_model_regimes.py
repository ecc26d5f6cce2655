"""Each model has a regime of its own: a base model its pool's, an adapter that of its slots."""

from collections import Counter
from collections.abc import Sequence

from pointsman_common.contracts.pool_pb2 import ModelRegime
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import an_endpoint
from pointsman_datalayer.core.model_regimes import MOST_MODELS, ModelRegimes, has_room_for
from pointsman_datalayer.core.pool_demand import Demand, ModelDemand
from pointsman_datalayer.core.pool_load import measure_load
from pointsman_datalayer.core.scarcity_regime import scarcity_name

CONFIG = InferencePool(
    name="default/llama",
    served_models=frozenset({"llama", "sql", "poems"}),
    lora_adapters=frozenset({"sql", "poems"}),
)
FULL = EndpointMetrics(active_loras=frozenset({"a", "b"}), max_loras=2)


def judged(
    endpoints: Sequence[Endpoint],
    in_flight: dict[str, int],
    *,
    config: InferencePool = CONFIG,
    demand: Demand | None = None,
) -> dict[str, ModelRegime]:
    regimes = ModelRegimes(rise_s=1.0, fall_s=5.0, stale_after_s=2.0)
    load = measure_load(
        endpoints, in_flight=sum(in_flight.values()), now=1_000.0, stale_after_s=2.0
    )
    told = regimes.update(
        config,
        endpoints,
        pool=load,
        demand=demand or Demand(),
        in_flight=Counter(in_flight),
        now=1_000.0,
    )
    return {model.model: model for model in told}


def words(models: dict[str, ModelRegime]) -> dict[str, str]:
    return {name: scarcity_name(model.scarcity) for name, model in models.items()}


def test_an_adapter_has_room_where_it_is_or_a_slot_is_free() -> None:
    assert has_room_for("a", FULL)
    assert not has_room_for("c", FULL)
    assert has_room_for("c", EndpointMetrics())
    waits = EndpointMetrics(active_loras=frozenset("a"), waiting_loras=frozenset("b"), max_loras=2)
    assert not has_room_for("c", waits)


def test_a_model_that_nobody_asks_for_is_idle_while_others_work() -> None:
    models = judged([an_endpoint(1, kv=0.7, running=3)], {"llama": 3})
    assert words(models) == {"llama": "scarce", "sql": "idle", "poems": "idle"}
    assert models["sql"].reason == "nobody asks for it"


def test_an_adapter_without_a_slot_is_saturated_while_its_base_is_not() -> None:
    endpoints = [
        an_endpoint(number, active_loras=("poems",), max_loras=1, running=1) for number in (1, 2)
    ]
    models = judged(endpoints, {"llama": 1, "sql": 1, "poems": 1})
    assert words(models) == {"llama": "abundant", "sql": "saturated", "poems": "abundant"}
    assert (models["sql"].usable_endpoints, models["poems"].usable_endpoints) == (0, 2)
    assert "free adapter slot" in models["sql"].reason


def test_an_adapter_is_as_scarce_as_the_endpoints_that_it_can_use() -> None:
    endpoints = [
        an_endpoint(1, active_loras=("sql",), max_loras=1, kv=0.8),
        an_endpoint(2, active_loras=("poems",), max_loras=1, kv=0.08),
    ]
    models = judged(endpoints, {"sql": 1, "poems": 1})
    assert words(models) == {"sql": "saturated", "poems": "abundant", "llama": "idle"}


def test_no_ready_endpoint_is_told_of_each_model() -> None:
    models = judged([an_endpoint(1, ready=False)], {"llama": 1})
    assert words(models)["llama"] == "saturated"
    assert models["llama"].reason == "no endpoint is ready"


def test_shares_of_the_work_and_the_busiest_model_first() -> None:
    demand = Demand(models={"sql": ModelDemand(9.0, 1.0), "llama": ModelDemand(1.0, 3.0)})
    models = judged([an_endpoint(1)], {}, demand=demand)
    assert list(models) == ["sql", "llama", "poems"]
    assert (models["sql"].utilization_share, models["llama"].utilization_share) == (0.25, 0.75)


def test_no_more_models_are_told_of_than_there_is_room_for() -> None:
    asked = {f"m{number:03d}": 1 for number in range(200)}
    models = judged([an_endpoint(1)], asked, config=InferencePool(name="default/llama"))
    assert len(models) == MOST_MODELS
