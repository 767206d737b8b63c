"""Selectors: a choice of tokens, in one line of text (`operation=resize,tenant=acme,age>5m`).

A selector is a list of terms with commas between them; a token must match all of them. A term is `field op value`:

| field                                     | what it is                       | ops               |
|-------------------------------------------|----------------------------------|-------------------|
| operation, actor, affinity, state, held   | text; `*` is any part of it      | = !=              |
| id, priority, parent, attempt, steps      | a whole number                   | = != > >= < <=    |
| age, running                              | seconds, or `30s`, `1.5h`, `2d`  | > >= < <=         |
| run.p50, run.p95                          | the same, as predicted           | > >= < <=         |
| memory.p95                                | bytes, or `512MiB`, as predicted | > >= < <=         |
| memory.share, overrun                     | a number, or `80%`               | > >= < <=         |
| failing, late, gate.saturation            | from 0 to 1, or `80%`            | > >= < <=         |
| retry_loop, leak                          | text                             | = !=              |
| anything else                             | a tag, which is text             | = !=              |

The fields from `run.p50` to `leak` are told by the plugin `Predict`; in a gate without it they are errors, see
`parse_for`. A tag with the name of a field is written `tag.NAME`. `actor=` takes a path or its last parts; a path with
`/` before it is the whole one. A value with commas, quotes or spaces is quoted, '...' or "...", with that quote doubled
inside. A value that a token does not have (a tag, a parent, a start, a prediction) is never equal, greater or less, and
always unequal; `=*` matches if it has one. `*` alone, or an empty text, matches every token.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from actors import Token, TokenState
from actors.lowlevel import AFFINITIES, DurableToken, place_of, process_drain
from tokengate.control._admission import restricted
from tokengate.control._exceptions import BadSelector
from tokengate.control._safe_text import plain
from tokengate.control._units import bytes_in
from tokengate.control.messages import HELD

if TYPE_CHECKING:  # here, so that a command of the command line loads no engine of policies
    from tokengate.policy._policies import PlaceName

Test: TypeAlias = Callable[[Token[Any], float], bool]
_Read: TypeAlias = Callable[[Any, float], Any]  # returns a value of a token, None if it does not have it
_Fits: TypeAlias = Callable[[Any], bool]

MAX_LENGTH: Final = 4_096  # characters
MAX_TERMS: Final = 32  # bounds the time for one token
_NEARLY: Final = 0.75  # how alike names are that may be taken for one another, 0 to 1


def held_of(token: Token[Any]) -> str:
    """Return how a token is held, as one of `HELD`, or an empty text."""
    if isinstance(token, DurableToken) and token.is_recording:
        return "recording"
    hold = token._extras.hold
    word = "" if hold is None else hold.word
    if token._run is not None and not token._done:
        return "joined"
    policy = token._extras.policy
    if policy is not None and policy.call is not None:
        return "consent"
    if word or not place_of(token).mailbox.is_kept_back(token):
        return word
    due_at = token.due_at
    return "delayed" if due_at is not None and due_at > token._place.system.clock() else "throttled"


def steps_of(token: Token[Any]) -> int:
    """Return the number of steps of a token that have begun; a child process counts its own."""
    if token.started_at is None:
        return token.steps
    drain = process_drain(token)
    return token.steps if drain is None else drain.steps_of(token)


def seen_parent(token: Token[Any]) -> int | None:
    """Return the id of the token that has made a token; only of a live one if the caller does not see all."""
    parent, here = token.parent, restricted()
    if parent is None or here is None:
        return parent
    made_it = token._place.system.live.get(parent)
    return parent if made_it is not None and here.sees(made_it) else None


def state_of(token: Token[Any]) -> str:
    """Return the state of a token as plain text."""
    return str.__str__(token.state)


def _tag_of(token: Token[Any], name: str) -> str | None:
    # Not `get`: a name may be of a subclass of `str`, with an `__eq__` of its own.
    for key, value in token.tags.items():
        if (key if type(key) is str else plain(key)) == name:  # no call: a grant may have 32 terms about 32 tags
            return plain(value)
    return None


def _predicted(name: str) -> _Read:
    """Return what reads a field that the predictor of the gate knows."""

    def read(token: Token[Any], now: float) -> Any:
        predictor = token._place.system.predictor
        return None if predictor is None else predictor.field(token, name, now)

    return read


_TEXTS: Final[Mapping[str, _Read]] = {
    "operation": lambda token, _now: plain(token.operation) or None,  # a place of an actor has none
    "actor": lambda token, _now: plain(token.actor),
    "affinity": lambda token, _now: plain(token.affinity),
    "state": lambda token, _now: state_of(token),
    "held": lambda token, _now: held_of(token),
    "retry_loop": _predicted("retry_loop"),
    "leak": _predicted("leak"),
}
_NUMBERS: Final[Mapping[str, _Read]] = {
    "id": lambda token, _now: token.id,
    "priority": lambda token, _now: int.__int__(token.priority),
    "parent": lambda token, _now: seen_parent(token),
    "attempt": lambda token, _now: token.attempt,
    "steps": lambda token, _now: steps_of(token),
}
_SECONDS: Final[Mapping[str, _Read]] = {
    "age": lambda token, now: now - token.created_at,
    "running": lambda token, now: None if (started := token.started_at) is None else now - started,
    "run.p50": _predicted("run.p50"),
    "run.p95": _predicted("run.p95"),
}
_SIZES: Final[Mapping[str, _Read]] = {"memory.p95": _predicted("memory.p95")}
_PARTS: Final = ("failing", "late", "gate.saturation")  # of 1
_SHARES: Final[Mapping[str, _Read]] = {name: _predicted(name) for name in ("memory.share", *_PARTS, "overrun")}

PREDICTED: Final = ("run.p50", "run.p95", *_SIZES, *_SHARES, "retry_loop", "leak")
"""The fields that the plugin `Predict` knows."""

NEEDS_PREDICT: Final = "needs the plugin Predict; open the gate with plugins=[Predict()]"
"""What a gate without it says of them."""

# {field: its possible values}; without them, the typing error in `state!=runing` would match every token.
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "affinity": AFFINITIES,
    "state": tuple(state.value for state in TokenState),
    "held": ("", *HELD),
    "retry_loop": ("yes", "no"),
    "leak": ("suspected", "confirmed"),
}


@attrs.frozen
class Fields:
    """What terms can be about, by name; each function returns it of a thing, at a time.

    Attributes:
        texts: of text.
        numbers: of whole numbers.
        seconds: of times, which change all the time.
        sizes: of bytes, which change, too.
        shares: of numbers that can be written as percentages, likewise.
        many: those of texts and numbers that return several; a term fits if it fits one of them.
        has_tags: whether terms can be about tags, too.
        instead: {field of live tokens: what has its place here}; an error names that.
        choices: {text: its possible values}.
        read: all of these.
    """

    texts: Mapping[str, _Read]
    numbers: Mapping[str, _Read]
    seconds: Mapping[str, _Read]
    sizes: Mapping[str, _Read] = attrs.field(factory=dict)
    shares: Mapping[str, _Read] = attrs.field(factory=dict)
    many: Collection[str] = ()
    has_tags: bool = False
    instead: Mapping[str, str] = attrs.field(factory=dict)
    choices: Mapping[str, tuple[str, ...]] = _CHOICES
    read: Mapping[str, _Read] = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: {**self.texts, **self.numbers, **self.seconds, **self.sizes, **self.shares}, takes_self=True
        ),
    )


_TOKENS: Final = Fields(_TEXTS, _NUMBERS, _SECONDS, _SIZES, _SHARES)

FIELDS: Final = tuple(_TOKENS.read)
"""The names that are not tags."""


def _said(name: str) -> _Read:
    """Return what reads a field as it was predicted of a record before it ran."""
    return lambda record, _now: None if (said := record.more.predicted) is None else said.get(name)


def _overrun(record: Any, _now: float) -> float | None:
    """Return how often the p95 of its run a record took; None if either is unknown."""
    took, expected = record.took, (record.more.predicted or {}).get("run.p95")
    return took / expected if took is not None and expected else None


# Of records, which are of the past: `_tag_of`, `plain` and the like work for them as they do for tokens.
_RECORDS: Final = Fields(
    {
        "operation": lambda record, _now: record.operation,
        "actor": lambda record, _now: record.actor,
        "affinity": lambda record, _now: record.affinity,
        "state": lambda record, _now: record.state,
        "error": lambda record, _now: record.more.error or None,
        "reason": lambda record, _now: record.more.reason or None,
        "key": lambda record, _now: record.more.key or None,
        "kind": lambda record, _now: record.kind,
        "gate_run": lambda record, _now: record.run,
    },
    {
        "id": lambda record, _now: record.token,
        "priority": lambda record, _now: int.__int__(record.priority),
        "parent": lambda record, _now: record.parent,
        "attempt": lambda record, _now: record.attempt,
        "steps": lambda record, _now: record.steps,
        "memory": lambda record, _now: record.more.memory,
    },
    {
        "age": lambda record, _now: record.ended - record.created,
        "wait": lambda record, _now: record.wait,
        "run": lambda record, _now: record.took,
        "held": lambda record, _now: record.held,
        "cpu": lambda record, _now: record.more.cpu,
        "finished": lambda record, now: now - record.ended,
        "run.p50": _said("run.p50"),
        "run.p95": _said("run.p95"),
    },
    {"memory.p95": _said("memory.p95")},
    {**{name: _said(name) for name in ("memory.share", "failing", "late")}, "overrun": _overrun},
    has_tags=True,
    instead={"running": "run", "gate.saturation": "wait", "retry_loop": "key and error", "leak": "memory"},
)

RECORD_FIELDS: Final = _RECORDS
"""What a selector can ask of a `Record`: `parse(text, RECORD_FIELDS)`."""

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.lt,
    ">=": operator.le,
    "<": operator.gt,
    "<=": operator.ge,
}
"""{comparison: the same with its sides exchanged, so that the number of the term comes first}."""

_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
_NAME = re.compile(rf"""tag\.(?P<quoted>{_QUOTED})|(?P<bare>[^\s,'"=!<>]+)""")
_OP = re.compile(r"!=|>=|<=|=|>|<")
_BARE_VALUE = re.compile(r"""[^\s,'"=!<>][^\s,'"]*""")
_VALUE = re.compile(rf"{_QUOTED}|{_BARE_VALUE.pattern}")
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])?")
_SHARE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(%)?")


@attrs.frozen
class Term:
    """A term of a selector, with its test."""

    name: str
    op: str
    value: str
    is_tag: bool
    test: Test = attrs.field(eq=False, repr=False)
    is_bare: bool = attrs.field(eq=False, repr=False)  # written without `tag.`

    @property
    def is_exact(self) -> bool:
        """Whether it fixes one value."""
        return self.op == "=" and "*" not in self.value

    def fits(self, value: str) -> bool:
        """Tell whether a term about a text fits the value that a token would have."""
        return _fits_text(self.name, self.op, self.value, {})(value) is (self.op == "=")


@attrs.frozen
class Selector:
    """A choice of tokens; made by `parse`.

    Attributes:
        text: the selector in its normal form, which `parse` reads as an equal one.
        parts: its terms.
    """

    text: str
    parts: tuple[Term, ...] = attrs.field(eq=False, repr=False)
    _tests: tuple[Test, ...] = attrs.field(eq=False, repr=False)
    _of_records: list[tuple[Test, ...]] = attrs.field(eq=False, repr=False, init=False, factory=list)

    @property
    def all(self) -> bool:
        """Whether every token matches."""
        return not self._tests

    @property
    def terms(self) -> int:
        """The number of terms."""
        return len(self._tests)

    @property
    def predicted(self) -> tuple[str, ...]:
        """The fields among its terms that the plugin `Predict` knows."""
        return tuple(part.name for part in self.parts if part.name in PREDICTED and not part.is_tag)

    def without(self, leave_out: Callable[[Term], bool]) -> Selector:
        """Return the selector without some terms; its text stays the whole one, for those who read it."""
        parts = tuple(part for part in self.parts if not leave_out(part))
        return Selector(self.text, parts, tuple(part.test for part in parts))

    def matches(self, token: Token[Any], now: float) -> bool:
        """Tell whether a token matches; no user code is run.

        Args:
            token: the token.
            now: seconds of the system's clock.
        """
        for test in self._tests:  # noqa: SIM110  # `all` over a generator takes twice as long
            if not test(token, now):
                return False
        return True

    def matches_record(self, record: Any, now: float) -> bool:
        """Tell whether a selector of live tokens matches a `Record`, which has no value of `running` or a kind of hold.

        Args:
            record: the record.
            now: seconds of the clock of its times.
        """
        if not self._of_records:
            self._of_records.append(tuple(map(_test_of_record, self.parts)))
        return all(test(record, now) for test in self._of_records[0])

    def matches_place(self, place: PlaceName) -> bool:
        """Tell whether a place matches, if it uses the fields of places only."""
        return self.matches(cast("Token[Any]", place), 0.0)


def value_of(field: str, token: Token[Any], now: float) -> Any:
    """Return the value of a field of a token; None: it does not have it, or it is not known."""
    return _TOKENS.read[field](token, now)


def parse(text: str, fields: Collection[str] | Fields | None = None) -> Selector:
    """Parse a selector.

    Args:
        text: the selector.
        fields: those that it may use, and no tags; or what else it is about; None: all fields of tokens, and tags.

    Raises:
        BadSelector: it cannot be parsed; the message points at the part.
    """
    if not issubclass(type(text), str):
        raise BadSelector("a selector is text, such as 'operation=resize,state=running'")
    known = fields if isinstance(fields, Fields) else _TOKENS
    if fields is known:
        fields = None if known.has_tags else known.read
    return _Parser(plain(text), known, fields).selector()


def parse_for(predictor: object | None, text: str, fields: Collection[str] | Fields | None = None) -> Selector:
    """Parse a selector that is to be used in a gate.

    Args:
        predictor: what predicts there; None: nothing does.
        text: see `parse`.
        fields: the same.

    Raises:
        BadSelector: it cannot be parsed, or needs a predictor.
    """
    selector = parse(text, fields)
    if predictor is None and selector.predicted:
        raise BadSelector(f"selector '{selector.text}': '{selector.predicted[0]}' {NEEDS_PREDICT}")
    return selector


def doubts(text: str, fields: Fields | None = None) -> list[str]:
    """Return what may be a slip in a selector, each with the remedy: tags whose names are nearly those of fields.

    Args:
        text: the selector; one that cannot be parsed has none.
        fields: what it is about; None: tokens.
    """
    try:
        parts = parse(text, fields).parts
    except BadSelector:
        return []
    tags = [part for part in parts if part.is_tag and part.is_bare]
    return [
        f"'{part.name}' is taken for a tag; write {near} if that field is meant, or tag.{part.name}"
        for part in tags
        if (near := nearly(part.name, (fields or _TOKENS).read))
    ]


def nearly(name: str, known: Iterable[str]) -> str:
    """Return the one of some names that is nearly the same as a name; empty if none is."""
    from difflib import get_close_matches  # here: it is for what is wrong

    return next(iter(get_close_matches(name.lower(), list(known), 1, _NEARLY)), "")


class _Parser:
    """Reads the text of a selector once, from left to right."""

    def __init__(self, text: str, known: Fields, fields: Any) -> None:
        self._text = text
        self._known = known
        self._fields: Collection[str] | None = fields
        self._at = 0

    def selector(self) -> Selector:
        if len(self._text) > MAX_LENGTH:
            raise BadSelector(
                f"the selector has {len(self._text)} characters; {MAX_LENGTH} are allowed, use fewer terms"
            )
        if self._text.strip() in ("", "*"):
            return Selector("*", (), ())
        texts, parts = [], []
        while True:
            text, part = self._term()
            texts.append(text)
            parts.append(part)
            if self._at == len(self._text):
                return Selector(",".join(texts), tuple(parts), tuple(part.test for part in parts))
            if self._text[self._at] != ",":
                raise self._bad(self._at, "a comma was expected", "quote values that have spaces or quotes")
            if len(parts) == MAX_TERMS:
                raise self._bad(self._at, f"a selector has at most {MAX_TERMS} terms", "use fewer")
            self._at += 1

    def _term(self) -> tuple[str, Term]:
        start = self._skip(0)
        name = self._expect(_NAME, "a field or a tag was expected", f"fields are {', '.join(self._known.read)}")
        is_bare = name == "tag." or not name.startswith("tag.")
        if not is_bare:
            name = _unquoted(name.removeprefix("tag."))
        elif name in self._known.instead:
            raise self._bad(start, f"'{name}' is of live tokens only", f"use {self._known.instead[name]}")
        is_tag = not is_bare or name not in self._known.read
        if self._fields is not None and (is_tag or name not in self._fields):
            raise self._bad(start, f"'{name}' is not possible here", f"use {', '.join(self._fields)}")
        remedy = "use =, !=, >, >=, < or <="
        if self._known is _TOKENS:
            remedy += f"; write operation={name}, actor={name}, or the token's id"
        op = self._expect(_OP, f"a comparison was expected after '{name}'", remedy)
        value_at = self._at
        value = _unquoted(
            self._expect(
                _VALUE, f"a value was expected after '{name}{op}'", "quote it if it has commas, spaces or quotes"
            )
        )
        try:
            test = _test(self._known, name, op, value, is_tag)
        except _Wrong as error:
            raise self._bad(value_at if error.value else start, error.what, error.remedy) from None
        term = Term(name, op, value, is_tag, test, is_bare)
        return f"{_written_name(name, is_tag, self._known)}{op}{_written(value)}", term

    def _expect(self, pattern: re.Pattern[str], what: str, remedy: str) -> str:
        """Read the text that matches a pattern, and the spaces after it."""
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._bad(self._at, what, remedy)
        self._skip(len(found[0]))
        return found[0]

    def _skip(self, length: int) -> int:
        """Skip so many characters and the spaces after them; return the new position."""
        found = _SPACE.match(self._text, self._at + length)
        self._at = found.end() if found is not None else self._at + length
        return self._at

    def _bad(self, at: int, what: str, remedy: str) -> BadSelector:
        part = self._text[at : at + 40]
        where = f"at {part!r}, character {at + 1}" if part else "at its end"
        shown = self._text if len(self._text) <= 200 else self._text[:200] + "..."
        return BadSelector(f"selector {shown!r}: {what} {where}; {remedy}")


class _Wrong(Exception):
    """A term with a value or a comparison that cannot work."""

    def __init__(self, what: str, remedy: str, *, value: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.value = value


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote) if quote in "'\"" else text


def quoted(text: str) -> str:
    """Return a value as it may stand in a selector, whatever it is."""
    return '"' + text.replace('"', '""') + '"'


def _written(value: str) -> str:
    return value if _BARE_VALUE.fullmatch(value) else quoted(value)


def _written_name(name: str, is_tag: bool, known: Fields) -> str:
    bare = _NAME.fullmatch(name)
    if bare is None or bare["bare"] is None:
        return f"tag.{quoted(name)}"
    is_taken = name in known.read or name in known.instead or name.startswith("tag.")
    return f"tag.{name}" if is_tag and is_taken else name


def _test(known: Fields, name: str, op: str, value: str, is_tag: bool) -> Test:
    """Return the test of a term; a value that the token does not have is only unequal."""
    read: _Read = (lambda token, _now: _tag_of(token, name)) if is_tag else known.read[name]
    fits = _fits_tag(known, name, op, value) if is_tag else _fits_field(known, name, op, value)
    if name in known.many:
        each = known.read[name]
        return lambda item, now: any(map(fits, each(item, now))) is (op != "!=")
    if op == "!=":
        return lambda token, now: (found := read(token, now)) is None or not fits(found)
    return lambda token, now: (found := read(token, now)) is not None and fits(found)


def _test_of_record(part: Term) -> Test:
    if part.is_tag or (part.name in _RECORDS.read and part.name != "held"):
        return _test(_RECORDS, part.name, part.op, part.value, part.is_tag)
    has = part.op == "!="  # a value that it does not have is unequal to each
    return lambda _record, _now: has


def _fits_tag(known: Fields, name: str, op: str, value: str) -> _Fits:
    if op in _ORDERS:
        ordered = (*known.numbers, *known.seconds, *known.sizes, *known.shares)
        near = nearly(name, ordered)
        raise _Wrong(
            f"'{name}' is a tag, and tags are text, so '{op}' is not possible",
            f"write {near} if that field is meant" if near else f"use = or !=; '{op}' is for {', '.join(ordered)}",
        )
    return _matcher(value)


def _fits_field(known: Fields, name: str, op: str, value: str) -> _Fits:
    if name in known.texts:
        return _fits_text(name, op, value, known.choices)
    if value == "*":
        if op in _ORDERS:
            raise _Wrong(f"'{name}{op}*' is not possible", "use = or != with *", value=True)
        return lambda _found: True
    if name in known.numbers:
        if not _NUMBER.fullmatch(value):
            raise _Wrong(f"'{name}' is a whole number, not {value!r}", "write it in digits", value=True)
        return partial(_ORDERS.get(op, operator.eq), int(value))
    amount = (_bytes if name in known.sizes else _share if name in known.shares else _seconds)(name, value)
    if op not in _ORDERS:
        raise _Wrong(f"'{name}' changes all the time, so '{op}' is not possible", "use >, >=, < or <=")
    return partial(_ORDERS[op], amount)


def _seconds(name: str, value: str) -> float:
    duration = _DURATION.fullmatch(value)
    if duration is None:
        raise _Wrong(f"'{name}' is a time, not {value!r}", "write 30, 200ms, 30s, 5m, 1h or 2d", value=True)
    return float(duration[1]) * _UNITS[duration[2] or ""]


def _bytes(name: str, value: str) -> float:
    try:
        return bytes_in(value)
    except ValueError:
        raise _Wrong(f"'{name}' is a size, not {value!r}", "write 500MB, 512MiB, 2GiB or bytes", value=True) from None


def _share(name: str, value: str) -> float:
    share = _SHARE.fullmatch(value)
    if share is None:
        raise _Wrong(f"'{name}' is a number, not {value!r}", "write 0.8 or 80%", value=True)
    number = float(share[1]) / (100.0 if share[2] else 1.0)
    if number > 1 and name in _PARTS:
        raise _Wrong(f"'{name}' is from 0 to 1, not {value!r}", "write 0.8 or 80%", value=True)
    return number


def _fits_text(name: str, op: str, value: str, possible: Mapping[str, tuple[str, ...]]) -> _Fits:
    if op in _ORDERS:
        raise _Wrong(f"'{name}' is text, so '{op}' is not possible", "use = or !=")
    fits, choices = _matcher(value), possible.get(name)
    if choices is not None and not any(map(fits, choices)):
        known = ", ".join(choice or '""' for choice in choices)
        raise _Wrong(f"'{name}' is never {value!r}", f"it is one of {known}", value=True)
    if name != "actor":
        return fits
    if value.startswith("/") and len(value) > 1:
        return _matcher(value[1:])
    ends = _matcher(f"*/{value}")
    return lambda path: fits(path) or ends(path)


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of a text against a pattern in which `*` is any text.

    It reads the text once, for every pattern; a regular expression with several `.*` could take very long.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return lambda text: text == pattern
    *middle, last = rest

    def fits(text: str) -> bool:
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return fits
