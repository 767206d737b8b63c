"""Selectors: how they are read and written, what they match, and what is said of those that cannot be read."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import patient
from tiers import in_ci

from actors import ActorSystem, Token, TokenState
from actors.lowlevel import NO_TAGS, OperationPlace
from tokengate.control._exceptions import BadSelector
from tokengate.control.inspection import _selector
from tokengate.control.inspection._selector import FIELDS, MAX_LENGTH, MAX_TERMS, RECORD_FIELDS, doubts, parse

NOW = 1_000.0


class Loud(str):
    """A text whose own methods must not be called."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise AssertionError("user code ran")

    def __len__(self) -> int:
        raise AssertionError("user code ran")


def make_place(path: str = "operations/resize", affinity: str = "cpu") -> OperationPlace:
    """A place in a system that was never opened."""
    system = ActorSystem("unopened", threads=2, clock=lambda: NOW)
    return system.operation_place(path, affinity, generator=False, concurrency=1)


def make_token(
    operation: str = "resize",
    *,
    path: str = "operations/resize",
    affinity: str = "cpu",
    tags: Mapping[str, str] = NO_TAGS,
    age: float = 0.0,
    running: float | None = None,
    held: str | None = None,
    **fields: Any,
) -> Token[Any]:
    token = make_place(path, affinity).token(operation, int, (), {}, 0, tags)
    token.created_at = NOW - age
    token.started_at = None if running is None else NOW - running
    if held is not None:
        token._own_extras().hold = SimpleNamespace(word=held)  # type: ignore[assignment]
    for name, value in fields.items():
        setattr(token._own_extras() if name == "attempt" else token, name, value)
    return token


def fits(text: str, token: Token[Any]) -> bool:
    return parse(text).matches(token, NOW)


@pytest.mark.parametrize("text", ["", "*", "  ", " * "])
def test_a_star_or_nothing_is_every_token(text: str) -> None:
    """Both are written `*`, and say so."""
    selector = parse(text)

    assert (selector.text, selector.all) == ("*", True)
    assert selector.matches(make_token(), NOW)


def test_all_terms_must_hold() -> None:
    """A comma means `and`."""
    token = make_token(tags={"tenant": "acme"})

    assert fits("operation=resize, tenant=acme", token)
    assert not fits("operation=resize, tenant=other", token)
    assert not parse("operation=resize").all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("operation=resize", True),
        ("operation!=resize", False),
        ("operation=re*", True),
        ("operation=*size", True),
        ("operation=r*s*e", True),
        ("operation=resize*resize", False),
        ("operation=Resize", False),
        ("operation!=x*", True),
        ("affinity=cpu", True),
        ("affinity=io", False),
        ("state=created", True),
        ("state=c*d", True),
        ("state!=running", True),
        ("held=''", True),
        ("held!=paused", True),
        ("id=1", True),
        ("id!=1", False),
        ("id>1", False),
        ("id<=1", True),
        ("priority>=-2", True),
        ("priority<-2", False),
        ("attempt=1", True),
        ("steps<1", True),
        ("parent=1", False),
        ("parent!=1", True),
        ("parent>0", False),
        ("parent=*", False),
        ("parent!=*", True),
    ],
)
def test_a_field_is_compared_as_what_it_is(text: str, expected: bool) -> None:
    """Texts by patterns, numbers as numbers; a parent that is not there is unequal to all."""
    assert fits(text, make_token()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age>119", True),
        ("age>120", False),
        ("age>=120s", True),
        ("age<2m", False),
        ("age<=2m", True),
        ("age<0.5h", True),
        ("running>4.5", True),
        ("running>4500ms", True),
        ("running>5001ms", False),
        ("running<5", False),
        ("running=*", True),
        ("age=*", True),
    ],
)
def test_times_are_seconds_minutes_or_hours(text: str, expected: bool) -> None:
    """A number alone is seconds."""
    assert fits(text, make_token(age=120, running=5)) is expected


def test_a_token_that_has_not_begun_has_run_for_no_time_at_all() -> None:
    """Neither less nor more than any number of seconds."""
    token = make_token(age=120)

    assert not fits("running<5", token)
    assert not fits("running>=0", token)
    assert fits("running!=*", token)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("actor=/shop/till/one", True),
        ("actor=one", True),
        ("actor=till/one", True),
        ("actor=till", False),
        ("actor=ne", False),
        ("actor=till/*", True),
        ("actor=*till*", True),
        ("actor=/one", False),
        ("actor=/till/one", False),
        ("actor=/shop/*/one", True),
        ("actor=/*/one", True),
        ("actor=/", False),
        ("actor!=/one", True),
        ("actor!=one", False),
        ("actor!=two", True),
    ],
)
def test_an_actor_is_named_by_its_path_or_its_last_parts(text: str, expected: bool) -> None:
    """As `gate.find` does, and with patterns; a slash before it asks for the whole path."""
    assert fits(text, make_token(path="shop/till/one")) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tenant=acme", True),
        ("tag.tenant=acme", True),
        ("tenant=a*", True),
        ("tenant!=acme", False),
        ("tenant!=other", True),
        ("country!=fr", True),
        ("country=*", False),
        ("country!=*", True),
        ("tenant=*", True),
        ("tag.state=CA", True),
        ("tag.state!=CA", False),
        ("""tag."odd name"='x, y'""", True),
        ("tag.tag.x=1", True),
    ],
)
def test_whatever_is_no_field_is_a_tag(text: str, expected: bool) -> None:
    """A token without the tag is unequal to all; a tag that is called like a field has `tag.` before it."""
    token = make_token(tags={"tenant": "acme", "state": "CA", "odd name": "x, y", "tag.x": "1"})

    assert fits(text, token) is expected


@pytest.mark.parametrize("held", ["paused", "pause_requested", "throttled"])
def test_held_is_what_its_hold_says(held: str) -> None:
    """In the words that a list of tokens has for it."""
    assert fits(f"held={held}", make_token(held=held))
    assert fits("held!=''", make_token(held=held))
    assert not fits(f"held={held}", make_token())


def test_subclasses_of_text_and_numbers_are_read_without_their_own_code() -> None:
    """Names and tags may come from a user's classes, and no method of these is called."""

    class LoudInt(int):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("user code ran")

        __hash__ = None  # type: ignore[assignment]

        def __gt__(self, other: object) -> bool:
            raise AssertionError("user code ran")

        __lt__ = __gt__

    key = type("Key", (Loud,), {"__hash__": str.__hash__})("tenant")
    tags = MappingProxyType({key: Loud("acme")})
    token = make_token(Loud("resize"), tags=tags, priority=LoudInt(4))

    assert fits("operation=resize,tenant=ac*,priority=4,priority>3", token)
    assert fits("operation=r*", token)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("operation = resize ,tenant= acme", "operation=resize,tenant=acme"),
        ("tag.tenant='acme'", "tenant=acme"),
        ("tag.state=CA", "tag.state=CA"),
        ("tenant='acme, inc'", 'tenant="acme, inc"'),
        ("""tenant='it''s "it"'""", '''tenant="it's ""it"""'''),
        ("tenant=''", 'tenant=""'),
        ("tenant='=x'", 'tenant="=x"'),
        ("age > 5m", "age>5m"),
        ("tag.tag.x=1", "tag.tag.x=1"),
        ("""tag.'plain'=1""", "plain=1"),
        ("tenant=a=b", "tenant=a=b"),
    ],
)
def test_a_selector_has_one_normal_form(text: str, normal: str) -> None:
    """So that two ways of writing one are one throttle."""
    assert parse(text).text == normal
    assert parse(normal) == parse(text)


@pytest.mark.parametrize(
    ("text", "part", "remedy"),
    [
        ("resize", "a comparison was expected after 'resize' at its end", "use =, !=, >"),
        ("operation", "a comparison was expected after 'operation' at its end", "use =, !="),
        ("operation=", "a value was expected after 'operation=' at its end", "quote it"),
        ("state==running", "a value was expected after 'state=' at '=running', character 7", "quote it"),
        ("=resize", "a field or a tag was expected at '=resize', character 1", "operation, actor, affinity"),
        ("state=running,", "a field or a tag was expected at its end", "fields are"),
        ("state=running,,id=1", "at ',id=1', character 15", "fields are"),
        ("operation=a b", "a comma was expected at 'b', character 13", "quote values"),
        ("tenant='acme", "a value was expected after 'tenant=' at \"'acme\"", "quote"),
        ("'tenant'=acme", "a field or a tag was expected at", "fields are"),
        ("*,state=running", "a comparison was expected after '*' at ',state=running'", "use ="),
        ("operation>a", "'operation' is text, so '>' is not possible at 'operation>a'", "use = or !="),
        ("size>30", "'size' is a tag, and tags are text", "is for id, priority, parent, attempt, steps, age, running"),
        ("agee>30", "'agee' is a tag, and tags are text, so '>' is not possible at 'agee>30'", "write age if that"),
        ("Overun<=2", "'Overun' is a tag", "write overrun if that field is meant"),
        ("id=one", "'id' is a whole number, not 'one' at 'one', character 4", "digits"),
        ("id>*", "'id>*' is not possible", "use = or !="),
        ("priority=1.5", "'priority' is a whole number", "digits"),
        ("id=9999999999999999999999", "'id' is a whole number", "digits"),
        ("age>soon", "'age' is a time, not 'soon' at 'soon', character 5", "5m, 1h or 2d"),
        ("age>-1", "'age' is a time", "30s"),
        ("age=30", "'age' changes all the time, so '=' is not possible", "use >, >=, < or <="),
        ("state!=runing", "'state' is never 'runing' at 'runing', character 8", "created, queued, running"),
        ("affinity=gpu", "'affinity' is never 'gpu'", "io, cpu"),
        ("held=stuck", "'held' is never 'stuck'", 'one of "", paused'),
    ],
)
def test_a_selector_that_cannot_be_read_is_refused_at_the_part(text: str, part: str, remedy: str) -> None:
    """The message has the part, where it is, and what to write instead."""
    with pytest.raises(BadSelector, match=re.escape(part)) as caught:
        parse(text)

    assert remedy in str(caught.value)


def test_a_tag_whose_name_is_nearly_that_of_a_field_may_be_a_slip() -> None:
    """It is a tag all the same; `tag.` says that it is meant, and other names are no slips."""
    token = make_token(tags={"operaton": "resize", "tenant": "acme"})

    assert fits("operaton=resize,tenant=acme", token)
    assert doubts("operaton=resize,tenant=acme") == [
        "'operaton' is taken for a tag; write operation if that field is meant, or tag.operaton"
    ]
    assert fits("tag.operaton=resize", token)
    for text in ("tag.operaton=resize", "tenant=acme,tag.state=x,age>5s", "*", "operaton>"):
        assert doubts(text) == []
    assert doubts("reson=x", RECORD_FIELDS) == [
        "'reson' is taken for a tag; write reason if that field is meant, or tag.reson"
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [("operation=a,tenant=b", "tenant"), ("tag.actor=a", "actor"), ("affinity=cpu, age>5", "age"), ("id=5", "id")],
)
def test_a_selector_may_be_held_to_some_fields(text: str, name: str) -> None:
    """As those of policies are, which belong to operations and actors."""
    fields = ("operation", "actor", "affinity")

    assert parse("operation=a*, affinity!=cpu", fields) == parse("operation=a*, affinity!=cpu")
    assert parse("*", fields) == parse("*")
    with pytest.raises(BadSelector, match=f"'{name}' is not possible here .* use operation, actor, affinity"):
        parse(text, fields)


def test_a_selector_of_boundless_length_is_refused() -> None:
    """Looking at one token must stay short."""
    with pytest.raises(BadSelector, match=f"has {MAX_LENGTH + 1} characters; {MAX_LENGTH} are allowed"):
        parse("x" * (MAX_LENGTH + 1))
    with pytest.raises(BadSelector, match=f"{MAX_TERMS} terms"):
        parse(",".join(["id>1"] * (MAX_TERMS + 1)))

    assert parse(",".join(["id>0"] * MAX_TERMS)).matches(make_token(), NOW)


def test_only_text_is_a_selector() -> None:
    """Anything else is refused without a look at it."""
    with pytest.raises(BadSelector, match="a selector is text"):
        parse(5)  # type: ignore[arg-type]


# --- Any selector at all ---------------------------------------------------------------------------------------------

letters = st.text(alphabet="ab*,'\" =!<>.é\n", max_size=6)
words = st.sampled_from(["resize", "index", "acme", "a", "ab", ""]) | letters


@attrs.frozen
class Term:
    field: str
    tag: bool
    op: str
    value: str


def _terms(fields: list[str], ops: list[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[Term]:
    return st.builds(Term, st.sampled_from(fields), st.just(False), st.sampled_from(ops), values)


equality, all_ops = ["=", "!="], ["=", "!=", ">", ">=", "<", "<="]
small = st.integers(-3, 12)
terms = (
    _terms(["operation", "actor"], equality, words)
    | _terms(["state"], equality, st.sampled_from([*TokenState, "*", "r*"]))
    | _terms(["affinity"], equality, st.sampled_from(["io", "asyncio", "cpu", "*"]))
    | _terms(["held"], equality, st.sampled_from(["", "paused", "p*"]))
    | _terms(["id", "priority", "parent", "attempt", "steps"], all_ops, small.map(str))
    | _terms(["age", "running"], all_ops[2:], st.integers(0, 120).map(lambda n: f"{n}s"))
    | st.builds(Term, words.filter(bool), st.just(True), st.sampled_from(equality), words)
)
tokens = st.builds(
    make_token,
    words,
    path=st.sampled_from(["a", "a/b", "operations/resize", "shop/ab"]),
    affinity=st.sampled_from(["io", "asyncio", "cpu"]),
    tags=st.dictionaries(words, words, max_size=3),
    age=st.integers(0, 120),
    running=st.none() | st.integers(0, 120),
    held=st.none() | st.sampled_from(["", "paused", "pause_requested"]),
    id=small,
    priority=small,
    parent=st.none() | small,
    steps=small,
    attempt=small,
)


def write(term: Term, space: str, quote: str) -> str:
    """Write a term in the clumsiest way."""

    def quoted(text: str) -> str:
        return quote + text.replace(quote, quote * 2) + quote

    name = f"tag.{quoted(term.field)}" if term.tag else term.field
    return f"{space}{name}{space}{term.op}{space}{quoted(term.value)}{space}"


def like(pattern: str, text: str) -> bool:
    return bool(re.match(fnmatch.translate(re.sub(r"([\[?])", r"[\1]", pattern)), text))


def oracle(term: Term, token: Token[Any]) -> bool:
    """Say what a term means, one word after the other."""
    if term.tag:
        found: Any = dict(token.tags).get(term.field)
    elif term.field == "held":
        found = getattr(token._extras.hold, "word", "")
    elif term.field == "age":
        found = NOW - token.created_at
    elif term.field == "running":
        found = None if token.started_at is None else NOW - token.started_at
    else:
        found = getattr(token, term.field)
        if term.field == "operation":
            found = found or None  # the place of an actor has none
    if term.tag or term.field in ("operation", "actor", "state", "affinity", "held"):
        equal = found is not None and like(term.value, found)
        if term.field == "actor" and not term.tag and term.value[:1] == "/" != term.value:
            equal = like(term.value[1:], found)
        elif term.field == "actor" and not term.tag:
            equal = equal or any(like(term.value, found[at + 1 :]) for at, letter in enumerate(found) if letter == "/")
        return equal if term.op == "=" else not equal
    if found is None:
        return term.op == "!="
    wanted = float(term.value.removesuffix("s"))
    compare = {"=": found == wanted, "!=": found != wanted, ">": found > wanted, ">=": found >= wanted}
    return {**compare, "<": found < wanted, "<=": found <= wanted}[term.op]


@patient
@given(st.lists(terms, min_size=1, max_size=4), st.sampled_from(["", " ", "\t "]), st.sampled_from("'\""), tokens)
def test_a_selector_means_what_its_terms_say(chosen: list[Term], space: str, quote: str, token: Token[Any]) -> None:
    """Whatever it is made of, however it is written; and its normal form means the same."""
    selector = parse(",".join(write(term, space, quote) for term in chosen))

    assert selector.matches(token, NOW) is all(oracle(term, token) for term in chosen)
    again = parse(selector.text)
    assert again.text == selector.text
    assert again.matches(token, NOW) is selector.matches(token, NOW)


@in_ci
@patient
@given(st.text(max_size=30) | st.text(alphabet="ab=!<>,'\"*. tgid1", max_size=20))
def test_any_text_is_a_selector_or_is_refused(text: str) -> None:
    """Nothing else is raised, and what is read is read again from its normal form."""
    try:
        selector = parse(text)
    except BadSelector:
        return

    assert parse(selector.text) == selector


def test_every_field_is_a_column_of_a_token() -> None:
    """The names in the documentation of the module are those that are known."""
    assert all(re.search(rf"\b{name}\b", _selector.__doc__ or "") for name in FIELDS)


def test_selectors_of_records_have_tags_and_name_what_takes_the_place_of_running() -> None:
    """What is asked of live tokens by `running` is asked of records by `run`."""
    record = SimpleNamespace(operation="resize", tags={"tenant": "acme"}, took=7.0)

    assert parse("tenant=acme,run>5s,operation=resize", RECORD_FIELDS).matches(record, NOW)  # type: ignore[arg-type]
    assert not parse("tag.tenant!=acme", RECORD_FIELDS).matches(record, NOW)  # type: ignore[arg-type]
    with pytest.raises(BadSelector, match=r"'running' is of live tokens .*; use run"):
        parse("running>5s", RECORD_FIELDS)
