"""A decision that was made again, told for people and for programs."""

import msgspec

from pointsman_replay.adapters.receipt_replay import Outcome, ReceiptReplay

MOST_CHARACTERS = 100
"""Of a difference's values."""


def receipt_text(replayed: ReceiptReplay) -> str:
    """Lines for a person."""
    told, found = replayed.told, replayed.found
    lines = [f"decision {replayed.decision_id}"]
    if replayed.same_config:
        lines.append(f"by the configuration that decided, {told.config_hash}:")
        if not replayed.differences:
            lines.append(f"the same, bit for bit: {_where(found)}")
        elif replayed.same_endpoints:
            lines.append(f"the same endpoints, {_where(found)}, but not bit for bit:")
        else:
            lines.append(f"not the same: {_where(found)}; the receipt says {_where(told)}")
        lines.extend(
            f"  {one.what}: receipt {_short(one.receipt)}, replay {_short(one.replay)}"
            for one in replayed.differences
        )
        if replayed.differences:
            lines.append(
                "(the receipt may be of another version of the scheduler, or of a plugin that "
                "remembers what receipts do not tell)"
            )
    else:
        lines.append(f"decided by {told.config_hash}: {_where(told)}")
        lines.append(f"by {found.config_hash} it would be: {_where(found)}")
        same = "the same endpoints" if replayed.same_endpoints else "another choice"
        lines.append(f"{same} on the same state")
    return "\n".join(lines) + "\n"


def receipt_json(replayed: ReceiptReplay) -> str:
    """The same for programs."""
    return msgspec.json.format(msgspec.json.encode(replayed), indent=2).decode() + "\n"


def _where(outcome: Outcome) -> str:
    if outcome.refusal:
        return f"refused ({outcome.refusal})"
    where = ", then ".join(outcome.chosen) or "nowhere"
    if outcome.predicted_ttft_s is not None:
        where += f" (first token predicted after {outcome.predicted_ttft_s:.4g} s)"
    return where


def _short(value: str) -> str:
    return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
