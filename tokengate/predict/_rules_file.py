"""The section `[[rule]]` of `tokengate.toml`."""

from __future__ import annotations

from typing import Any, Final

from tokengate._exceptions import BadPolicy
from tokengate.config._report import Report
from tokengate.config._sections import Section, register
from tokengate.policy._file import Tables
from tokengate.predict._rule import Rule

_KEYS: Final = ("name", "select", "do", "mode", "for", "expires", "budget", "unattended")
_NEEDED: Final = {"name": "give it a name", "select": "write a selector", "do": "write a verb, such as 'renice -1'"}


def _rules(tables: Tables, report: Report) -> tuple[Rule, ...]:
    found: dict[str, Rule] = {}
    for number, table in enumerate(tables):
        path = ("rule", number)
        unknown = [key for key in table if key not in _KEYS]
        for key in unknown:
            report.wrong((*path, key), table[key], f"there is no such key; use one of {', '.join(_KEYS)}")
        missing = [key for key in _NEEDED if key not in table]
        for key in missing:
            report.wrong((*path, key), None, _NEEDED[key])
        if unknown or missing:
            continue
        values: dict[str, Any] = {"for_" if key == "for" else key: value for key, value in table.items()}
        try:
            rule = Rule(**values)
        except BadPolicy as error:
            report.wrong((*path, error.field), error.value, error.remedy)
            continue
        if found.setdefault(rule.name, rule) is not rule:
            report.wrong((*path, "name"), rule.name, "another rule has it; use a different one")
    return tuple(found.values())


RULES: Final = Section[Rule]("rule", _rules)

register(RULES)
