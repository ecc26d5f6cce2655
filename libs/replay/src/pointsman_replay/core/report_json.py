"""A report for programs."""

import msgspec

from pointsman_replay.core.experiment import Report


def json_report(report: Report) -> str:
    """Return all of the report, fields by their names in the code; times in seconds."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
