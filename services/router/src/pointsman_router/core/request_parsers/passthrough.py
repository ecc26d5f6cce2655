"""Whatever no other parser reads goes on as it is, without a model and without a prompt."""

from pointsman_router.core.request_parsers.parsed_request import ParsedRequest

PASSED = ParsedRequest(api="passthrough", names_model=False, reports_usage=False)


class PassthroughParser:
    path_suffixes: tuple[str, ...] = ()

    def parse(self, body: bytes) -> ParsedRequest:
        del body
        return PASSED
