"""How objectives, rules, configurations and endpoints find their pool."""

import pytest

from pointsman_datalayer.core.manifests import ManifestError, read_manifests
from pointsman_datalayer.core.pool_assembly import Discovery, assemble_pools


def a_pool(name: str = "llama", *, app: str = "llama", ports: str = "8000", more: str = "") -> str:
    numbers = ", ".join(f"{{number: {port}}}" for port in ports.split(","))
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}, annotations: {{{more}}}}}
spec: {{selector: {{matchLabels: {{app: {app}}}}}, targetPorts: [{numbers}]}}
"""


def an_objective(name: str, priority: int | None, *, group: str = "llm-d.ai") -> str:
    given = "" if priority is None else f"priority: {priority}, "
    return f"""
apiVersion: {group}/v1alpha2
kind: InferenceObjective
metadata: {{name: {name}}}
spec: {{{given}poolRef: {{name: llama}}}}
"""


def a_rewrite(name: str, *rules: str, created: str = "", group: str = "llm-d.ai") -> str:
    """Rules as `from>to:weight,to:weight`; an empty `from` is any model."""
    lines: list[str] = []
    for rule in rules:
        model, _, targets = rule.partition(">")
        match = f"[{{model: {{type: Exact, value: {model}}}}}]" if model else "[]"
        to = ", ".join(
            f"{{modelRewrite: {target.partition(':')[0]}"
            + (f", weight: {target.partition(':')[2]}}}" if ":" in target else "}")
            for target in targets.split(",")
        )
        lines.append(f"  - {{matches: {match}, targets: [{to}]}}")
    stamp = f", creationTimestamp: {created}" if created else ""
    return f"""
apiVersion: {group}/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: {name}{stamp}}}
spec:
  poolRef: {{name: llama}}
  rules:
""" + "\n".join(lines)


def a_model(name: str, model: str, criticality: str, targets: str = "") -> str:
    return f"""
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: {name}}}
spec:
  modelName: {model}
  criticality: {criticality}
  targetModels: [{targets}]
  poolRef: {{name: llama}}
"""


def discover(*documents: str) -> Discovery:
    return assemble_pools(read_manifests([("all.yaml", "\n---\n".join(documents))]))


def rules(*documents: str) -> list[tuple[str, tuple[str, ...]]]:
    pool = discover(a_pool(), *documents).pools["default/llama"].config
    return [
        (rule.source.partition("/")[2], tuple(sorted(rule.models))) for rule in pool.model_rules
    ]


def test_objectives_give_priorities_and_zero_where_none_is_given() -> None:
    pools = discover(a_pool(), an_objective("hi", 10), an_objective("none", None)).pools
    assert pools["default/llama"].config.objectives == {"hi": 10, "none": 0}


def test_where_both_groups_exist_the_new_one_wins() -> None:
    old = an_objective("old", 1, group="inference.networking.x-k8s.io")
    assert discover(a_pool(), old).pools["default/llama"].config.objectives == {"old": 1}
    both = discover(a_pool(), old, an_objective("new", 2))
    assert both.pools["default/llama"].config.objectives == {"new": 2}
    assert "left out" in both.warnings[0]


def test_an_alpha_pool_is_read_and_yields_to_the_v1_pool_of_its_name() -> None:
    alpha = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: llama}
spec: {selector: {app: old}, targetPortNumber: 9000, extensionRef: {name: e, failureMode: FailOpen}}
"""
    config = discover(alpha).pools["default/llama"].config
    assert (config.selector, config.target_ports) == ({"app": "old"}, (9000,))
    assert config.failure_mode == "FailOpen"
    assert discover(alpha, a_pool()).pools["default/llama"].config.target_ports == (8000,)


def test_a_rule_for_a_named_model_comes_before_one_for_any() -> None:
    assert rules(a_rewrite("any", ">a"), a_rewrite("named", "m>b")) == [
        ("named", ("m",)),
        ("any", ()),
    ]


def test_the_older_object_comes_first_and_then_the_order_of_writing() -> None:
    young = a_rewrite("young", "m>a", created="2026-02-01T00:00:00Z")
    old = a_rewrite("old", "m>b", "n>c", created="2026-01-01T00:00:00Z")
    assert rules(young, old) == [("old", ("m",)), ("old", ("n",)), ("young", ("m",))]


def test_criticality_becomes_priority_and_target_models_become_a_rule() -> None:
    pool = discover(
        a_pool(),
        a_model("c", "chat", "Critical", "{name: a, weight: 3}, {name: b, weight: 1}"),
        a_model("s", "spam", "Sheddable"),
    ).pools["default/llama"]
    chat, spam = pool.config.model_rules
    assert (chat.priority, [(to.model, to.weight) for to in chat.targets]) == (
        10,
        [("a", 3), ("b", 1)],
    )
    assert (spam.priority, [to.model for to in spam.targets]) == (-1, ["spam"])


def test_a_second_inference_model_of_one_name_is_left_out_with_a_warning() -> None:
    discovery = discover(a_pool(), a_model("a", "m", "Critical"), a_model("b", "m", "Standard"))
    assert [rule.source for rule in discovery.pools["default/llama"].config.model_rules] == [
        "InferenceModel/a"
    ]
    assert "InferenceModel/b is left out" in discovery.warnings[0]


def test_weights_on_some_targets_only_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"\[1\]: spec.rules\[0\].targets: either all"):
        discover(a_pool(), a_rewrite("r", "m>a:1,b"))


def test_the_same_object_twice_is_refused_naming_both_places() -> None:
    with pytest.raises(ManifestError, match=r"all.yaml\[1\]: metadata.name: .*all.yaml\[0\]"):
        discover(a_pool(), a_pool())


def test_objects_of_two_pools_may_share_a_name_with_a_warning() -> None:
    other = an_objective("hi", 2).replace("name: llama}", "name: other}")
    discovery = discover(a_pool(), a_pool("other"), an_objective("hi", 1), other)
    assert discovery.pools["default/llama"].config.objectives == {"hi": 1}
    assert discovery.pools["default/other"].config.objectives == {"hi": 2}
    assert "no cluster has both" in discovery.warnings[0]
    with pytest.raises(ManifestError, match="stands also in"):
        discover(a_pool(), an_objective("hi", 1), an_objective("hi", 1))


def test_an_object_of_a_pool_that_is_not_there_is_a_warning() -> None:
    assert "names pool 'default/llama'" in discover(an_objective("hi", 1)).warnings[0]


CONFIG = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def test_a_picker_config_that_names_the_pool_is_preferred_to_one_for_all() -> None:
    named = CONFIG + "metadata: {name: n, annotations: {pointsman.dev/pool: default/llama}}\n"
    pools = discover(a_pool(), a_pool("other"), CONFIG + "plugins: []\n", named).pools
    assert "pointsman.dev/pool" in pools["default/llama"].config.endpoint_picker_config
    assert "plugins: []" in pools["default/other"].config.endpoint_picker_config


@pytest.mark.parametrize("annotations", ["{}", "{pointsman.dev/pool: llama}"])
def test_two_picker_configs_for_one_pool_are_refused(annotations: str) -> None:
    config = f"{CONFIG}metadata: {{annotations: {annotations}}}\n"
    with pytest.raises(ManifestError, match=r"\[2\]: metadata.annotations.*\[1\] is for"):
        discover(a_pool(), config, config)


def test_served_models_include_the_adapters_and_may_be_unknown() -> None:
    both = a_pool(more='pointsman.dev/served-models: "a, b", pointsman.dev/lora-adapters: "c"')
    config = discover(both).pools["default/llama"].config
    assert config.served_models == {"a", "b", "c"}
    assert config.lora_adapters == {"c"}
    assert not discover(a_pool()).pools["default/llama"].config.served_models


def endpoints(pool: str, *entries: str) -> list[tuple[str, str, int]]:
    listed = "endpoints:\n" + "\n".join(f"- {entry}" for entry in entries)
    found = discover(pool, listed).pools["default/llama"].endpoints
    return [(item.name, item.address, item.rank) for item in found]


def test_each_target_port_is_an_endpoint_of_its_own() -> None:
    assert endpoints(
        a_pool(ports="8000,8001"), "{name: a, address: '::1', labels: {app: llama}}"
    ) == [
        ("default/a-rank-0", "[::1]:8000", 0),
        ("default/a-rank-1", "[::1]:8001", 1),
    ]


def test_an_entry_that_names_its_port_is_one_endpoint() -> None:
    entry = '{name: a, address: 10.0.0.1, port: "8001", labels: {app: llama}}'
    assert endpoints(a_pool(ports="8000,8001"), entry) == [("default/a-rank-1", "10.0.0.1:8001", 1)]


@pytest.mark.parametrize("where", ["labels", "annotations"])
@pytest.mark.parametrize(
    "name", ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"]
)
def test_active_ports_restrict_the_ranks(where: str, name: str) -> None:
    labels = f'{{app: llama, {name}: "8001"}}' if where == "labels" else "{app: llama}"
    notes = f'{{{name}: "8001"}}' if where == "annotations" else "{}"
    entry = f"{{name: a, address: 10.0.0.1, labels: {labels}, annotations: {notes}}}"
    assert endpoints(a_pool(ports="8000,8001"), entry) == [("default/a-rank-1", "10.0.0.1:8001", 1)]


def test_active_ports_restrict_an_entry_that_names_its_port_too() -> None:
    entries = [
        f"{{name: a, address: 10.0.0.1, port: {port}, labels: {{app: llama}},"
        " annotations: {llm-d.ai/active-ports: '8001'}}"
        for port in (8000, 8001)
    ]
    found = endpoints(a_pool(ports="8000,8001"), *entries)
    assert found == [("default/a-rank-1", "10.0.0.1:8001", 1)]


def test_active_ports_that_are_no_ports_are_refused() -> None:
    entry = '{name: a, address: h, labels: {app: llama, llm-d.ai/active-ports: "x"}}'
    with pytest.raises(ManifestError, match=r"\[1\]: endpoints\[a\].active-ports: 'x' is no port"):
        endpoints(a_pool(), entry)


def test_only_endpoints_of_the_namespace_with_the_labels_belong_to_the_pool() -> None:
    listed = """
endpoints:
- {name: a, address: 10.0.0.1, labels: {app: llama, zone: x}}
- {name: b, address: 10.0.0.2, labels: {app: other}}
- {name: c, address: 10.0.0.3, namespace: elsewhere, labels: {app: llama}}
"""
    discovery = discover(a_pool(), a_pool("second"), listed)
    for pool in ("default/llama", "default/second"):
        assert [item.name for item in discovery.pools[pool].endpoints] == ["default/a-rank-0"]
    assert len(discovery.warnings) == 2


def test_a_uid_is_stable_and_changes_with_the_address() -> None:
    def uid(entry: str) -> str:
        listed = f"endpoints: [{{name: a, labels: {{app: llama}}, {entry}}}]"
        return discover(a_pool(), listed).pools["default/llama"].endpoints[0].uid

    assert uid("address: 10.0.0.1") == uid("address: 10.0.0.1, port: 8000")
    assert uid("address: 10.0.0.1") != uid("address: 10.0.0.2")
    assert uid("address: 10.0.0.1, uid: given") == "given"


def test_two_endpoints_of_one_uid_are_refused() -> None:
    entry = "{name: a, address: 10.0.0.1, labels: {app: llama}, uid: same}"
    with pytest.raises(ManifestError, match="have the same uid"):
        endpoints(a_pool(), entry, entry)


def test_an_endpoint_whose_host_has_no_address_is_known_and_says_so() -> None:
    text = a_pool() + "---\nendpoints: [{name: a, address: gone, labels: {app: llama}}]"
    manifests = read_manifests([("a", text)])
    (endpoint,) = assemble_pools(manifests, lambda _: None).pools["default/llama"].endpoints
    assert (endpoint.address, endpoint.problem) == ("gone:8000", "host 'gone' has no address")


def test_the_hash_changes_with_the_configuration_and_not_with_the_endpoints() -> None:
    listed = "endpoints: [{name: a, address: 10.0.0.1, labels: {app: llama}}]"

    def hash_of(*documents: str) -> str:
        return discover(*documents).pools["default/llama"].config.hash

    assert hash_of(a_pool()) == hash_of(a_pool(), listed)
    assert hash_of(a_pool()) != hash_of(a_pool(), an_objective("hi", 1))
