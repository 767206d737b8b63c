"""What follows from the declaration of a verb."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, ClassVar

import attrs
import pytest
from msgspec import Meta

from tokengate.control import Control, messages
from tokengate.control.api._handles import ActorHandle, TokenHandle
from tokengate.control.api._verbs import Verbs
from tokengate.control.messages import (
    RIGHTS,
    VERBS,
    Listing,
    Message,
    OnOne,
    OnTokens,
    Retag,
    SetThrottle,
    Step,
    Terminate,
    answer_of,
    verb_of,
)
from tokengate.control.messages._bases import by_verb
from tokengate.control.registry._kinds import check_verb
from tokengate.control.registry._verbs import (
    Asker,
    Blocking,
    Method,
    asks,
    bound,
    by_hand,
    help_of,
    metas_of,
    signature_of,
)


@attrs.frozen
class Shelf:
    """A row."""

    name: str


@attrs.frozen
class Shelves(Listing[Shelf]):
    """List shelves."""


@attrs.frozen
class ClearShelf(OnOne[Shelf]):
    """Take everything from a shelf.

    It stays where it is.

    Raises:
        NoSuchShelf: it does not exist.
    """

    upto: Annotated[int, Meta(description="Number of things.", ge=1, extra={"flag": "-n"})] = 1


class Library(Asker, Blocking):
    """Sends nothing: its verbs return what they would have sent."""

    clear = asks(ClearShelf)
    retag = asks(Retag)

    def _put(self, message: Message[Any], read: Any) -> Any:
        return message


@pytest.mark.parametrize("found", VERBS.values(), ids=verb_of)
def test_each_verb_declares_its_right_and_describes_its_arguments(found: type[Message[Any]]) -> None:
    """So that no verb is without help on one of the ways in."""
    assert found.right in RIGHTS
    assert help_of(found).partition("\n")[0].endswith((".", ":"))
    assert all(meta["description"] for meta in metas_of(found).values())


def test_an_argument_without_a_description_is_an_error_that_says_what_to_write() -> None:
    @attrs.frozen
    class Blink(OnTokens):
        times: int = 1

    with pytest.raises(ValueError, match=r"field 'times' of Blink needs Annotated\[\.\.\., Meta\(description"):
        metas_of(Blink)


def test_a_verb_without_a_right_cannot_be_declared() -> None:
    """The error names the class and the rights."""
    with pytest.raises(TypeError, match=r"right of Shred is None; it must be one of view, .*operate"):

        class Shred(Message[None]):
            """Shred a book."""

    with pytest.raises(TypeError, match="right of Burn is 'arson'; it must be one of"):

        class Burn(Message[None]):
            """Burn a book."""

            right: ClassVar = "arson"


def test_the_answer_is_what_the_brackets_of_a_base_say() -> None:
    """Also if a base stands between the message and `Message`."""
    assert answer_of(Shelves) == tuple[Shelf, ...]
    assert answer_of(ClearShelf) is Shelf
    assert answer_of(Terminate) == answer_of(Step)


def test_the_name_of_a_verb_may_differ_from_its_class() -> None:
    """A class may not be called like a part of a policy."""
    assert verb_of(SetThrottle) == "throttle"
    assert verb_of(ClearShelf) == "clear_shelf"


def test_an_argument_has_its_description_bounds_and_extras() -> None:
    """In a type that is not bounded, too, and in one of a union."""
    assert metas_of(ClearShelf)["upto"] == {"description": "Number of things.", "ge": 1, "flag": "-n"}
    assert metas_of(SetThrottle)["rate"]["gt"] == 0
    assert metas_of(Step)["wait"]["metavar"] == "SECONDS"


def test_a_method_has_text_and_signature_of_its_message() -> None:
    """The sections of the docstring come after the arguments."""
    assert str(inspect.signature(Library().clear)) == (
        "(name: str, upto: int = 1, *, reason: str = '', force: bool = False, dry_run: bool = False, "
        "break_glass: str = '') -> Shelf"
    )
    assert inspect.getdoc(Library.clear) == (
        "Take everything from a shelf.\n\nIt stays where it is.\n\n"
        "Args:\n    name: its name, as the list has it.\n    upto: number of things.\n"
        "    reason: why, for the record; `force` needs it.\n    force: include what has the guard `force`.\n"
        "    dry_run: change nothing; make a proposal of it, which `apply` does.\n"
        "    break_glass: what is on fire: act at once where approval is needed.\n\n"
        "Raises:\n    NoSuchShelf: it does not exist."
    )
    assert help_of(ClearShelf) == "Take everything from a shelf.\n\nIt stays where it is."


def test_a_method_sends_its_message() -> None:
    """With the arguments of the class, by position or by name."""
    assert Library().clear("top", upto=3) == ClearShelf("top", 3)


class ShelfHandle(Blocking):
    """One shelf of a library."""

    _control, _subject = Library(), "top"
    clear = bound(Library.clear)


def test_a_wrong_call_is_an_error_of_the_method() -> None:
    """It names no class; that of a handle has no first argument. Errors of the values are as they are."""
    with pytest.raises(TypeError, match=r"^clear\(\) missing a required argument: 'name'$"):
        Library().clear()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^clear\(\) got too many positional arguments$"):
        ShelfHandle().clear(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^clear\(\) got an unexpected keyword argument 'name'$"):
        ShelfHandle().clear(name="low")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        Library().retag(7, remove=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("handle", [TokenHandle, ActorHandle])
def test_the_verbs_of_a_handle_have_no_first_argument(handle: type[object]) -> None:
    """The text leaves it out, and names the others."""
    verbs = [verb for name, verb in vars(handle).items() if isinstance(verb, Method)]

    assert verbs
    for verb in verbs:
        assert not {"select", "token", "name"} & {*inspect.signature(verb).parameters}
        text = inspect.getdoc(verb) or ""
        described = re.findall(r"^    (\w+): ", text.partition("Args:")[2].partition("\n\n")[0], re.MULTILINE)
        assert described == [name for name in inspect.signature(verb).parameters if name != "self"]
        assert ("Args:" in text) is bool(described)


def test_types_of_a_signature_are_text_without_modules() -> None:
    """As a reader of the help would write them."""
    assert str(signature_of(Terminate)).startswith(
        "(select: Target, mode: Literal['cancel', 'interrupt', 'kill'] = 'interrupt', *, grace: float = "
    )


def test_a_verb_by_hand_is_the_function_itself() -> None:
    """Its class says how the result comes."""

    def twice(_self: object, number: int) -> int:
        return 2 * number

    assert by_hand(twice) is twice  # type: ignore[comparison-overlap]


def test_every_verb_that_is_not_local_is_a_method_of_control() -> None:
    """But for those that Python has under another name."""
    assert {verb for verb in VERBS if not hasattr(Control, verb)} == set()
    assert issubclass(Control, Verbs)


@attrs.frozen
class Rename(Message[None]):
    """Rename a book."""

    right: ClassVar = "operate"
    verb_name: ClassVar = "retag"


class Bind(OnTokens):
    """Bind books."""


@attrs.frozen
class Sell(OnTokens):
    price: Annotated[int, Meta(description="In cents.")] = 0


@attrs.frozen
class Lend(OnTokens):
    """Lend books."""

    readers: Annotated[list[str], Meta(description="Their names.")] = attrs.field(factory=list)


@pytest.mark.parametrize("message", VERBS.values(), ids=VERBS)
def test_the_declaration_of_each_verb_is_one_from_which_all_follows(message: type[Message[Any]]) -> None:
    """The checks are those of the verbs of plugins; and its class is a name of the vocabulary."""
    check_verb(message)
    assert message.__name__ in messages.__all__


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Bind, "Bind has no @attrs.frozen, which makes fields of its annotations"),
        (Sell, "Sell has no docstring, which is the help of its verb"),
        (Lend, "field 'readers' of Lend has the type list[str]; write one of str, int, "),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_cannot_be_declared(message: type[Message[Any]], text: str) -> None:
    """The error names the class, the field, and what is possible."""
    with pytest.raises(ValueError, match=re.escape(text)):
        check_verb(message)


def test_two_messages_cannot_have_the_same_verb() -> None:
    """One of them would vanish without a word."""
    with pytest.raises(ValueError, match="'retag' is the verb of Retag and of Rename; give one of them another name"):
        by_verb([*VERBS.values(), Rename])
    with pytest.raises(ValueError, match=r"Bind has no @attrs\.frozen"):
        by_verb([Bind])
