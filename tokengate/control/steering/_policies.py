"""The verbs for policies: what places are held to, the states of that, and flags."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from actors.lowlevel import SYSTEM, Place
from tokengate._exceptions import BadConfig, BadPolicy
from tokengate.config._file import Config, read_file, socket_group
from tokengate.config._sections import FLAGS, POLICIES, THROTTLES
from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control._ports import ControlledGate
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.inspection._policies import breaker_rows, budget_rows, flag_row, rows_of
from tokengate.control.inspection._queries import place_called
from tokengate.control.inspection._selector import parse, parse_for, quoted
from tokengate.control.registry._plugin import Plugin
from tokengate.control.steering._throttles import selection_of
from tokengate.policy._events import PolicyChanged
from tokengate.policy._file import PLACE_FIELDS, FlagRow, PolicyRow
from tokengate.policy._flags import Flag
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._policies import Block, PlaceName, Policies, is_ours, operation_of, policies_in
from tokengate.policy._selected import OPERATOR
from tokengate.policy._sources import LIVE, live_fields

_READ_SECONDS: Final = 30.0  # for a directory service to know the users of a file
_reads = OffLoop("reads of tokengate.toml", threads=1)  # in the order in which they were asked for


class PolicyVerbs:
    """The verbs for the policies of a gate.

    Args:
        gate: the gate.
        prepare: of its authorizer.
    """

    def __init__(self, gate: ControlledGate, prepare: Callable[[Config], Callable[[], None]]) -> None:
        self._gate = gate
        self._prepare = prepare
        self._system = gate._open_system

    @property
    def _policies(self) -> Policies:
        return policies_in(self._system)

    # What places are held to

    async def policies(self, message: m.Policies) -> tuple[m.PolicyRow, ...]:
        return tuple(row for one in self._governed(message.select) for row in rows_of(one))

    async def set_policy(self, message: m.SetPolicy) -> tuple[m.PolicyRow, ...]:
        place = self._place(message.name)
        _check_ours(place)
        try:
            fields = live_fields(f"'{place.path}'", {name: _value(text) for name, text in message.values.items()})
            self._policies.edit(place, fields)
        except BadPolicy as error:
            raise BadRequest(str(error)) from None
        return self._changed(place)

    async def reset_policy(self, message: m.ResetPolicy) -> tuple[m.PolicyRow, ...]:
        place = self._place(message.name)
        if not self._policies.reset(place, message.field):
            what = f"'{message.field}' of " if message.field else ""
            raise BadRequest(f"no operator has set {what}the policy of '{place.path}'; 'tokengate policies' shows it")
        return self._changed(place)

    def _place(self, name: str) -> Place:
        place = place_called(self._system, name)
        admission().reach(place)
        return place

    def _changed(self, place: Place) -> tuple[m.PolicyRow, ...]:
        """Have a changed policy act; return its rows."""
        self._update(place)
        return tuple(rows_of(place.governor)) if isinstance(place.governor, PlaceGovernor) else ()

    def _update(self, place: Place) -> dict[str, str | None]:
        """Have a place held to what the file and operators say by now; return what has changed, as it is published."""
        before = {row.field: row.value for row in rows_of(place.governor)}
        spec = next((spec for spec, known in list(self._gate._operations.items()) if known is place), None)
        if spec is None:
            self._policies.update(place)
        else:
            self._policies.update(place, spec.function, spec.name.partition("@")[0])
        after = {row.field: row.value for row in rows_of(place.governor)}
        changed: dict[str, str | None] = {name: value for name, value in after.items() if before.get(name) != value}
        changed |= dict.fromkeys(before.keys() - after.keys())
        if changed and isinstance(place.governor, PlaceGovernor):
            self._policies.publish(PolicyChanged(place.governor.name, changed))
        return changed

    def _governed(self, select: str) -> Iterable[PlaceGovernor]:
        """Return the governors that a selector of places matches; a text without a comparison is a name with `*`."""
        if "=" in select:
            selector = parse(select, PLACE_FIELDS)
            wanted: Callable[[PlaceGovernor], bool] = lambda one: selector.matches_place(_name_of(one))  # noqa: E731
        else:
            names = parse(f"actor={quoted(select or '*')}")
            wanted = lambda one: names.matches_place(_name_of(one))  # noqa: E731
        places = filter(admission().sees_place, self._system.places())
        governors = [place.governor for place in places if not place.path.startswith(SYSTEM)]
        return [one for one in governors if isinstance(one, PlaceGovernor) and wanted(one)]

    # States

    async def breakers(self, message: m.Breakers) -> tuple[m.BreakerRow, ...]:
        return tuple(row for one in self._governed(message.select) for row in breaker_rows(one, None))

    async def open_breaker(self, message: m.OpenBreaker) -> tuple[m.BreakerRow, ...]:
        return self._steer_breakers(message.name, message.key, "open", lambda state: state.hold("open"))

    async def close_breaker(self, message: m.CloseBreaker) -> tuple[m.BreakerRow, ...]:
        return self._steer_breakers(message.name, message.key, "closed", lambda state: state.hold("closed"))

    async def auto_breaker(self, message: m.AutoBreaker) -> tuple[m.BreakerRow, ...]:
        return self._steer_breakers(message.name, message.key, None, lambda state: state.release())

    async def reset_breaker(self, message: m.ResetBreaker) -> tuple[m.BreakerRow, ...]:
        return self._steer_breakers(message.name, message.key, None, lambda state: state.reset())

    def _steer_breakers(
        self, name: str, key: str | None, held: Any, change: Callable[[Any], object]
    ) -> tuple[m.BreakerRow, ...]:
        governor = self._governor_at(name, "breaker")
        with governor.lock:
            governor.breakers_by = admission().caller.principal
            if key is None:
                governor.held_breakers = held
            for _, state in governor.states("breaker", key):
                change(state)
        governor.publish()
        rows = tuple(breaker_rows(governor, key))
        if key is not None and not rows:
            raise BadRequest(f"'{governor.name}' has no breaker of '{key}'; 'tokengate breakers' lists them")
        return rows

    async def budgets(self, message: m.Budgets) -> tuple[m.BudgetRow, ...]:
        return tuple(row for one in self._governed(message.select) for row in budget_rows(one, None))

    async def reset_budget(self, message: m.ResetBudget) -> tuple[m.BudgetRow, ...]:
        governor = self._governor_at(message.name, "budget")
        with governor.lock:
            for _, rule in governor.states("budget", message.key):
                rule.state.reset()
                governor.throttles.changed_locked(rule)
        governor.let_go()
        rows = tuple(budget_rows(governor, message.key))
        if message.key is not None and not rows:
            raise BadRequest(f"'{governor.name}' has no budget of '{message.key}'; 'tokengate budgets' lists them")
        return rows

    def _governor_at(self, name: str, part: str) -> PlaceGovernor:
        place = self._place(name)
        if not isinstance(place.governor, PlaceGovernor) or getattr(place.governor.policy, part) is None:
            raise BadRequest(f"'{place.path}' has no {part}; 'tokengate policies' shows what it is held to")
        return place.governor

    # Flags

    async def flags(self, message: m.Flags) -> tuple[m.FlagRow, ...]:
        wanted = message.select.strip() and self._selector(message.select)
        covers = admission().covers
        found = [one for one in self._policies.flags if wanted in ("", one.row.select)]
        return tuple(flag_row(one) for one in found if covers(one.row.select))

    async def set_flag(self, message: m.SetFlag) -> m.FlagRow:
        if not message.select.strip():
            raise BadRequest("a flag needs a selector; '*' selects all tokens")
        select = self._selector(message.select)
        row = FlagRow(0, select, message.mode, message.percent, message.by or None)
        flag = _flag(row, LIVE, self._system.clock)
        others = tuple(one for one in self._policies.flags if not _is_live(one, select))
        self._policies.flags = (*others, flag)
        return flag_row(flag)

    async def reset_flag(self, message: m.ResetFlag) -> m.FlagRow:
        text, flags = self._selector(message.select), self._policies.flags
        flag = next((one for one in flags if _is_live(one, text)), None)
        if flag is None:
            raise BadRequest(f"no operator has set a flag for '{text}'; 'tokengate flags' lists them")
        self._policies.flags = tuple(one for one in flags if one is not flag)
        return flag_row(flag)

    def _selector(self, text: str) -> str:
        """Return the selector of a flag in its normal form."""
        return parse_for(self._system.predictor, text).text

    # The file

    async def reload(self, _message: m.Reload) -> m.Reloaded:
        file = self._gate._config_file
        if file is None:
            raise BadRequest("the gate was opened without a file: Gate(config=...), or the variable TOKENGATE_CONFIG")
        try:
            found = await _reads.run(_READ_SECONDS, lambda: self._read(file))
        except BadConfig as error:
            raise BadRequest(str(error)) from None
        if found is None:
            raise BadRequest(
                f"'{file}' was not read within {_READ_SECONDS:g} s, and nothing has changed; see whether its disk, and "
                "the directory service that knows its users, answer"
            )
        config, take_rights, takes = found
        take_file(self._policies, config)
        take_rights()
        places = [place for place in self._system.places() if not place.path.startswith(SYSTEM)]
        changed = [line for take in takes for line in take()]
        left_out: list[str] = []
        if socket_group(config) != self._gate._socket_group:
            left_out.append("control.group: it holds from the next time that the gate is opened")
        for place in places:
            news = self._update(place).items()
            if not admission().sees_place(place):
                continue
            for name, value in news:
                changed.append(f"{place.path}: {name}" + ("" if value is None else f"={value}"))
            if isinstance(place.governor, PlaceGovernor):
                left_out += [f"{place.path}: {error}" for error in place.governor.errors]
        return m.Reloaded(str(file), tuple(changed), tuple(left_out))

    def _read(self, file: Path) -> tuple[Config, Callable[[], None], list[Callable[[], Iterable[str]]]]:
        config = file_of(file, self._gate._plugins)
        takes = [take for plugin in self._gate._plugins if (take := plugin.prepare(config)) is not None]
        return config, self._prepare(config), takes


def file_of(path: Path, plugins: Iterable[Plugin]) -> Config:
    """Read the file of a gate with these plugins.

    Raises:
        BadConfig: it has errors, or cannot be read.
    """
    predicts = next((one for one in plugins if any(kind.__name__ == "Predict" for kind in type(one).__mro__)), None)
    return read_file(path, partial(parse_for, predicts), plugins=plugins)


def take_file(policies: Policies, config: Config) -> None:
    """Have a file decide; places are held to it when they are made, or updated. Flags of operators win over its own."""
    where = config.path.name
    blocks = tuple(_block(row, f"{where}:{row.line}") for row in config.of(POLICIES))
    flags = tuple(_flag(row, f"{where}:{row.line}", policies.clock) for row in config.of(FLAGS))
    throttles = {row.select: row for row in config.of(THROTTLES)}
    selections = [selection_of(parse(select), policies.clock) for select in throttles]
    policies.blocks = blocks
    policies.flags = (*flags, *(flag for flag in policies.flags if flag.source == LIVE))
    for selection, row in zip(selections, throttles.values(), strict=True):
        policies.selected.set(selection, row.throttle, f"{where}:{row.line}", row.keys)
    kept = {(name, f"{where}:{row.line}") for name, row in throttles.items()}
    for one in policies.selected.all():
        for source in one.limits.keys() - {OPERATOR}:
            if (one.name, source) not in kept:
                policies.selected.lift(one.name, source)


def _block(row: PolicyRow, source: str) -> Block:
    selector = parse(row.select, PLACE_FIELDS)
    return Block(selector.matches_place, row.fields, source)


def _flag(row: FlagRow, source: str, clock: Callable[[], float]) -> Flag:
    selector = parse(row.select)
    return Flag(row, lambda token: selector.matches(token, clock()), source)


def _is_live(flag: Flag, select: str) -> bool:
    return flag.source == LIVE and flag.row.select == select


def _name_of(governor: PlaceGovernor) -> PlaceName:
    place = governor.place
    return PlaceName(governor.operation or operation_of(place), place.path, place.affinity)


def _value(given: str | float) -> Any:
    """Return a value as it would stand in the file, where texts have quotes."""
    if not isinstance(given, str):
        return given
    try:
        return tomllib.loads(f"value = {given}")["value"]
    except ValueError:
        return given


def _check_ours(place: Place) -> None:
    if is_ours(place):
        raise NotSteerable(f"'{place.path}' belongs to the runtime, or is a supervisor, and is held to no policy")
