import pytest

from pointsman_common.endpoint_picker_config import parse_endpoint_picker_config
from pointsman_common.errors import BadRequestError, SettingsError
from pointsman_common.inference_pool import InferencePool
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.request_headers import RequestHeaders

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
ONLY_OPENAI = HEAD + (
    "plugins: [{type: openai-parser}]\nrequestHandler: {parsers: [{pluginRef: openai-parser}]}\n"
)
ONLY_ANTHROPIC = ONLY_OPENAI.replace("openai", "anthropic")
UNKNOWN_PARSER = ONLY_OPENAI.replace("openai-parser", "nosuch-parser")


class Routers(PoolRouters):
    def __init__(self, own: str = "") -> None:
        self.refused: list[str] = []
        super().__init__(
            parse_endpoint_picker_config(own) if own else None,
            max_prefix_blocks=10,
            forwarded_headers=(),
            on_refused=lambda pool, error: self.refused.append(f"{pool}: {error}"),
        )

    def reads(self, path: str, pool: str = "a/b") -> bool:
        router = self.get(pool)
        assert router is not None
        try:
            router.route(RequestHeaders([(":path", path.encode())]), b"x", bodiless=False)
        except BadRequestError as error:
            return "no parser registered" not in str(error)
        return True


def test_a_pool_is_known_from_its_first_configuration_on() -> None:
    routers = Routers()
    assert routers.get("a/b") is None
    routers.use(InferencePool(name="a/b"))
    assert routers.get("a/b") is not None and set(routers.pools()) == {"a/b"}


def test_a_pool_that_is_no_more_is_forgotten() -> None:
    routers = Routers()
    routers.use(InferencePool(name="a/b", endpoint_picker_config=ONLY_OPENAI))
    routers.forget("a/b")
    routers.forget("never/known")
    assert routers.get("a/b") is None and not routers.pools()
    routers.use(InferencePool(name="a/b"))
    assert routers.reads("/v1/messages")


def test_a_pools_document_goes_before_the_services_own() -> None:
    routers = Routers(own=ONLY_OPENAI)
    routers.use(InferencePool(name="a/b"))
    assert routers.reads("/v1/completions") and not routers.reads("/v1/messages")
    routers.use(InferencePool(name="a/b", endpoint_picker_config=ONLY_ANTHROPIC))
    assert routers.reads("/v1/messages") and not routers.reads("/v1/completions")
    routers.use(InferencePool(name="a/b"))
    assert routers.reads("/v1/completions") and not routers.reads("/v1/messages")


@pytest.mark.parametrize("bad", [UNKNOWN_PARSER, "kind: [", HEAD + "unknown: 1\n"])
def test_a_document_that_cannot_be_used_leaves_the_one_before_in_force(bad: str) -> None:
    routers = Routers()
    routers.use(InferencePool(name="a/b", endpoint_picker_config=ONLY_OPENAI))
    routers.use(InferencePool(name="a/b", endpoint_picker_config=bad, objectives={"o": 1}))
    assert not routers.reads("/v1/messages")
    [refused] = routers.refused
    assert refused.startswith("a/b: ")


def test_a_bad_first_document_leaves_the_services_own() -> None:
    routers = Routers(own=ONLY_ANTHROPIC)
    routers.use(InferencePool(name="a/b", endpoint_picker_config=UNKNOWN_PARSER))
    assert routers.reads("/v1/messages") and not routers.reads("/v1/completions")


def test_a_document_is_refused_once_and_not_at_each_change_of_something_else() -> None:
    routers = Routers()
    for priority in range(3):
        routers.use(
            InferencePool(
                name="a/b", endpoint_picker_config=UNKNOWN_PARSER, objectives={"o": priority}
            )
        )
    assert len(routers.refused) == 1


def test_the_services_own_document_must_be_right() -> None:
    with pytest.raises(SettingsError, match="sglanghttp-parser"):
        Routers(own=UNKNOWN_PARSER)
