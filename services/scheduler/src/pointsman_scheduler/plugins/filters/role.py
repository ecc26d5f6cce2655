"""Keeps the endpoints that serve a phase of inference, by their label `llm-d.ai/role`.

Source: llm-d-router's decode-filter, prefill-filter and encode-filter.
"""

from collections.abc import Mapping

from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.filters.label_mask import LabelMask

ROLE_LABEL = "llm-d.ai/role"

DECODE = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})
PREFILL = frozenset(
    {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
)
ENCODE = frozenset({"encode", "encode-prefill", "encode-prefill-decode"})


class RoleFilter:
    def __init__(self, roles: frozenset[str], *, unlabelled: bool) -> None:
        self._roles, self._unlabelled = roles, unlabelled
        self._mask = LabelMask(self._matches)

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        del request
        return self._mask.of(candidates)

    def _matches(self, labels: Mapping[str, str]) -> bool:
        role = labels.get(ROLE_LABEL)
        return self._unlabelled if role is None else role in self._roles


def decode_filter() -> RoleFilter:
    """An endpoint without the label decodes."""
    return RoleFilter(DECODE, unlabelled=True)


def prefill_filter() -> RoleFilter:
    return RoleFilter(PREFILL, unlabelled=False)


def encode_filter() -> RoleFilter:
    return RoleFilter(ENCODE, unlabelled=False)
