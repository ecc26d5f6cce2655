"""Makes a decision again from its receipt, by the production scheduler's core."""

import msgspec

from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.endpoint_picker_config import config_hash
from pointsman_common.errors import SettingsError
from pointsman_replay.core.trace import ReplayError
from pointsman_scheduler.adapters.installed_plugins import with_installed
from pointsman_scheduler.core.config import DEFAULT_POLICIES, compile_config
from pointsman_scheduler.core.decision_inputs import InputsError
from pointsman_scheduler.core.decision_replay import Replayed, differences, replay
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Refused
from pointsman_scheduler.plugins.catalogue import PLUGINS


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Where a configuration sends the request of a receipt."""

    config_hash: str
    chosen: tuple[str, ...] = ()
    """Addresses, the primary first; empty: refused."""
    refusal: str = ""
    predicted_ttft_s: float | None = None
    """Of the primary, where the configuration predicts it."""


class ChangedPart(msgspec.Struct, frozen=True):
    """Something that came out otherwise."""

    what: str
    receipt: str
    replay: str


class ReceiptReplay(msgspec.Struct, frozen=True, kw_only=True):
    decision_id: str
    told: Outcome
    """What the receipt says."""
    found: Outcome
    """What the replay found."""
    same_config: bool
    same_endpoints: bool
    differences: tuple[ChangedPart, ...]
    """All that came out otherwise, to the last bit of each score."""


def replay_receipt(receipt: DecisionReceipt, config: str | None = None) -> ReceiptReplay:
    """Decide again on what the receipt tells.

    `config` is the text of another EndpointPickerConfig; `None`: the one that decided.

    Raises:
        ReplayError: the receipt does not hold what is needed, or the configuration cannot be used.
    """
    text = text_of(receipt) if config is None else config
    try:
        compiled = compile_config(text, with_installed(PLUGINS))
        replayed = replay(receipt, receipt.candidate_set, compiled)
        found = differences(receipt, replayed)
    except SettingsError as error:
        raise ReplayError(f"the configuration cannot be used: {error}") from error
    except InputsError as error:
        raise ReplayError(f"receipt {receipt.decision_id!r} cannot be replayed: {error}") from error
    told = Outcome(
        config_hash=receipt.config_hash,
        chosen=tuple(one.address for one in receipt.chosen),
        refusal=receipt.rejection.message,
    )
    outcome = _outcome(replayed, compiled.hash)
    return ReceiptReplay(
        decision_id=receipt.decision_id,
        told=told,
        found=outcome,
        same_config=compiled.hash == receipt.config_hash,
        same_endpoints=told.chosen == outcome.chosen and told.refusal == outcome.refusal,
        differences=tuple(ChangedPart(one.what, one.told, one.found) for one in found),
    )


def text_of(receipt: DecisionReceipt) -> str:
    """The configuration that decided: as the receipt tells it, or one of the defaults.

    Raises:
        ReplayError: it is neither.
    """
    known = (receipt.endpoint_picker_config, *DEFAULT_POLICIES.values())
    for text in known:
        if text and config_hash(text) == receipt.config_hash:
            return text
    raise ReplayError(
        f"the configuration {receipt.config_hash!r} that decided is not known; give its file "
        "with --config"
    )


def _outcome(replayed: Replayed, config: str) -> Outcome:
    outcome = replayed.outcome
    if isinstance(outcome, Refused):
        return Outcome(config_hash=config, refusal=rejection_for(outcome.refusal).message)
    run = outcome.runs[outcome.profile]
    predicted = [
        float(step.prediction.ttft_s[run.best])
        for step in run.scores
        if step.prediction is not None
    ]
    return Outcome(
        config_hash=config,
        chosen=tuple(one.address for one in outcome.endpoints),
        predicted_ttft_s=predicted[-1] if predicted else None,
    )
