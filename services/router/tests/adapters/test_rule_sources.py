"""Where rules come from: files, and Python that others wrote."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_router.adapters.rule_entry_points import with_entry_points
from pointsman_router.adapters.rules_file import OWN, RulesFile
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.plugins.rules.catalogue import rule_types
from pointsman_router.rules import NoParameters, RuleType

GOOD = "rules: [{name: a, type: model-alias, parameters: {aliases: {x: y}}}]"


class Files:
    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, VirtualClock()
        self.book = PolicyBook(rule_types(CalloutAccess()), lambda *_: None)
        self.refused: list[str] = []
        self.file = RulesFile(
            str(path),
            self.clock,
            reload_s=1.0,
            use=self.book.use_own,
            on_refused=self._refuse,
        )

    def _refuse(self, error: SettingsError) -> None:
        self.refused.append(str(error))
        self.book.refuse_own(OWN, error)

    def shown(self) -> list[str]:
        """What `GET /rules` has under `refused`."""
        return [f"{each['pool']}|{each['policy']}" for each in self.book.described()["refused"]]

    def names(self) -> list[str]:
        chain = self.book.chain("any/pool")
        return [rule.name for rule in chain.rules] if chain else []


async def test_a_file_is_read_again_when_it_changes_and_a_bad_one_refused_once(
    tmp_path: Path,
) -> None:
    files = Files(tmp_path / "rules.yaml")
    files.path.write_text(GOOD)
    files.file.load()
    assert files.names() == ["file/a"]
    running = asyncio.create_task(files.file.run())
    try:
        files.path.write_text(GOOD.replace("name: a", "name: b"))
        await files.clock.advance(1.0)
        assert files.names() == ["file/b"]
        for bad in ("rules: [{name: a}]", "rules: {", "a: 1\na: 2"):
            files.path.write_text(bad)
            await files.clock.advance(3.0)
            assert files.names() == ["file/b"] and files.shown() == ["|file"]
        assert len(files.refused) == 3
        assert "rules[0]: Object missing required field `type`" in files.refused[0]
        files.path.unlink()
        await files.clock.advance(3.0)
        assert files.names() == ["file/b"] and len(files.refused) == 4
        files.path.write_text("a: 1\na: 2")
        await files.clock.advance(1.0)
        assert len(files.refused) == 5 and files.shown() == ["|file"]
        files.path.write_text("")
        await files.clock.advance(1.0)
        assert files.names() == [] and files.shown() == []
    finally:
        running.cancel()
        await asyncio.wait([running])


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"rules_file: .*none\.yaml cannot be read"):
        Files(tmp_path / "none.yaml").file.load()


def test_types_of_rules_come_from_other_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("someones_rules")
    kind: RuleType = RuleType(NoParameters, lambda _name, _parameters: None)  # type: ignore[arg-type,return-value]  # never built
    module.MINE, module.OTHER = kind, 5  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "someones_rules", module)
    types = with_entry_points({}, {"mine": "someones_rules:MINE"})
    assert types["mine"] is kind
    for named, why in (
        ({"mine": "someones_rules:NONE"}, "rule_types.mine: someones_rules:NONE cannot be loaded"),
        ({"mine": "no_such_module:X"}, "cannot be loaded: ModuleNotFoundError"),
        ({"mine": "someones_rules:OTHER"}, "someones_rules:OTHER is no RuleType"),
        ({"validate": "someones_rules:MINE"}, "there is a rule type 'validate' already"),
    ):
        with pytest.raises(SettingsError) as refused:
            with_entry_points(rule_types(CalloutAccess()), named)
        assert why in str(refused.value)
