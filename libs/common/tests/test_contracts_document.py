"""docs/contracts.md cannot rot: its examples parse, and no message and no subject is left out."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pointsman_common import contracts, subjects

DOCUMENT = (Path(__file__).parents[3] / "docs" / "contracts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^```json (pointsman\.[\w.]+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
)
MODULES = [
    importlib.import_module(f"{contracts.__name__}.{found.name}")
    for found in pkgutil.iter_modules(contracts.__path__)
]
FILES: list[FileDescriptor] = [
    module.DESCRIPTOR for module in MODULES if module.DESCRIPTOR.package.startswith("pointsman.")
]
"""Ours: KEDA's is explained where it is KEDA's."""
MESSAGES: dict[str, Descriptor] = {
    message.full_name: message for file in FILES for message in file.message_types_by_name.values()
}


def parsed(name: str, text: str) -> Message:
    message: Message = GetMessageClass(MESSAGES[name])()
    return json_format.Parse(text, message)


def payloads() -> set[str]:
    """What is asked, answered, or said on the bus (which an envelope heads)."""
    hooks = {
        end.full_name
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
        for end in (method.input_type, method.output_type)
    }
    return hooks | {name for name, kind in MESSAGES.items() if "envelope" in kind.fields_by_name}


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_each_example_is_its_message_in_the_form_that_a_hook_over_http_takes(
    name: str, text: str
) -> None:
    said = json_format.MessageToDict(parsed(name, text), preserving_proto_field_name=True)
    assert _pruned(json.loads(text)) == _pruned(said)


CURLS = re.findall(
    r"^curl -s \S+(/v1/\w+) .*?-d '(.*?)'(?:$| )", DOCUMENT, re.MULTILINE | re.DOTALL
)
ASKED = {
    "/v1/route": "pointsman.routing.v1.RouteRequest",
    "/v1/admit": "pointsman.flow.v1.AdmitRequest",
    "/v1/pick": "pointsman.scheduling.v1.PickRequest",
}


@pytest.mark.parametrize(("path", "text"), CURLS)
def test_each_curl_line_sends_the_message_of_its_hook(path: str, text: str) -> None:
    assert parsed(ASKED[path], text).ByteSize() > 0


def test_every_hook_over_http_has_a_curl_line() -> None:
    assert {path for path, _ in CURLS} == ASKED.keys()


def test_every_message_of_a_hook_or_of_the_bus_has_an_example() -> None:
    assert len(payloads()) >= 21
    assert payloads() - {name for name, _ in EXAMPLES} == set()


def test_every_kind_of_request_event_has_an_example() -> None:
    [kinds] = [[set(json.loads(text)) for name, text in EXAMPLES if "RequestEvents" in name]]
    assert {"picked", "serving", "finished"} <= set().union(*kinds)


def test_every_subject_is_in_the_table() -> None:
    named = {"pool": "<pool>", "endpoint_uid": "<endpoint>", "name": "<name>"}
    kinds = [
        function
        for name, function in inspect.getmembers(subjects, inspect.isfunction)
        if "pool" in inspect.signature(function).parameters and not name.startswith("_")
    ]
    assert len(kinds) >= 11
    for kind in kinds:
        subject = kind(**dict.fromkeys(inspect.signature(kind).parameters, "X"))
        for parameter in inspect.signature(kind).parameters:
            subject = subject.replace("X", named[parameter], 1)
        assert f"| `{subject}` |" in DOCUMENT
    assert f"| `{subjects.HEARTBEAT}` |" in DOCUMENT


def test_every_hook_is_in_the_table() -> None:
    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                assert f"`{service.full_name}/{method.name}`" in DOCUMENT


def _pruned(value: object) -> object:
    """Without zero values, which JSON may leave out, and with numbers in one form."""
    if isinstance(value, dict):
        kept = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (False, 0.0, "", [], None)}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
