import pytest

from pointsman_common import errors
from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.error_mapping import HTTP_STATUS, rejection, rejection_of, rpc_status_of
from wire import RpcStatus


def test_each_code_has_its_http_status() -> None:
    for code, status in HTTP_STATUS.items():
        assert rejection(code, "no").http_status == status
    assert HTTP_STATUS["ResourceExhausted"] == 429


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.BadRequestError("no", param="model"), "BadRequest", RpcStatus.INVALID_ARGUMENT),
        (errors.NotFoundError("no"), "NotFound", RpcStatus.INVALID_ARGUMENT),
        (errors.PayloadTooLargeError("no"), "PayloadTooLarge", RpcStatus.INVALID_ARGUMENT),
        (errors.LayerUnavailableError("router", "no"), "ServiceUnavailable", RpcStatus.UNAVAILABLE),
        (errors.BusUnavailableError("no"), "ServiceUnavailable", RpcStatus.UNAVAILABLE),
        (errors.LayerFailedError("router", "no"), "Internal", RpcStatus.INTERNAL),
        (errors.SettingsError("key", "no"), "Internal", RpcStatus.INTERNAL),
        (errors.PointsmanError("no"), "Internal", RpcStatus.INTERNAL),
    ],
)
def test_every_failure_has_its_words_in_http_and_in_grpc(
    error: errors.PointsmanError, code: str, status: RpcStatus
) -> None:
    refusal = rejection_of(error)
    assert (refusal.code, refusal.http_status) == (code, HTTP_STATUS[code])
    assert "no" in refusal.message
    assert rpc_status_of(error) is status


def test_the_field_at_fault_and_the_reason_reach_the_refusal() -> None:
    assert rejection_of(errors.BadRequestError("no", param="model")).param == "model"
    assert rejection(
        "ResourceExhausted", "full", reason="rejected-saturated", retry_after_s=2
    ) == Rejection(
        http_status=429,
        code="ResourceExhausted",
        message="full",
        reason="rejected-saturated",
        retry_after_s=2,
    )


def test_every_error_has_a_reason_of_its_own_for_metrics() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PointsmanError)
    ]
    assert len({kind.reason for kind in kinds}) == len(kinds) >= 9
