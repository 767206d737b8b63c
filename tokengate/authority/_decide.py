"""What is decided of guards, reasons and consent: functions of what they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from actors import Guard
from tokengate.control._admission import Caller
from tokengate.control._exceptions import BadRequest
from tokengate.control.messages import ENVELOPE, RIGHTS, Change
from tokengate.control.messages._bases import MAX_REASON

Need: TypeAlias = Literal["nothing", "force", "approval", "never"]

MIN_GLASS: Final = 10  # characters of what is said to be on fire

NOBODY: Final = 65534
"""The user that stands for no user; it has no rights."""

ROLES: Final[Mapping[str, frozenset[str]]] = {
    "viewer": frozenset({"view"}),
    "operator": frozenset({"view", "operate", "terminate", "approve"}),
    "admin": frozenset(RIGHTS),
}
"""{role: the rights that it stands for}."""


def rights_of(names: Iterable[str]) -> frozenset[str]:
    """Return the rights that roles and rights stand for, by their names."""
    return frozenset[str]().union(*(ROLES.get(name, {name}) for name in names))


WITH_REASON: Final = ("terminate", "state")
"""The rights that, if a grant gives them, need a reason for each verb."""


def need_of(guard: Guard, *, begun: bool, counts: bool) -> Need:
    """Return what a verb needs for a token.

    Args:
        guard: of the token.
        begun: whether its code has begun.
        counts: whether the verb ends, pauses or limits tokens.
    """
    if guard == "never":
        return "never"
    if guard == "none" or not counts:
        return "nothing"
    return "approval" if guard == "approval" and begun else "force"


def greatest(needs: Iterable[Need]) -> Literal["nothing", "force", "approval"]:
    """Return what is needed for several tokens together, none of which is `never`."""
    found = set(needs)
    return "approval" if "approval" in found else "force" if "force" in found else "nothing"


def check_change(message: Change[object], verb: str, *, granted: bool) -> None:
    """Check why a verb that changes something is asked for.

    Args:
        message: of the verb.
        verb: its name.
        granted: whether a grant of the file allows it.

    Raises:
        BadRequest: a reason is missing or too long, or what is on fire is not said.
    """
    check_texts(message, verb)
    if message.dry_run or message.reason.strip() or message.break_glass:
        return
    if message.force:
        raise BadRequest(f"'{verb}' with force needs a reason; say why, for the record")
    if granted and message.right in WITH_REASON:
        raise BadRequest(f"'{verb}' needs a reason, since it is allowed by a grant; say why, for the record")


def check_texts(message: Change[object], verb: str) -> None:
    """Check what a message says beside its arguments, by itself.

    Raises:
        BadRequest: the verb does not take it; or a reason, or what is on fire, is too long or too short.
    """
    for field in ENVELOPE:
        if getattr(message, field) and field not in message.takes:
            raise BadRequest(f"'{verb}' takes no {field}; leave it out")
    for field, text in (("reason", message.reason), ("break_glass", message.break_glass)):
        if len(text) > MAX_REASON:
            raise BadRequest(f"{field} of '{verb}' has {len(text)} characters; {MAX_REASON} are allowed")
    if message.break_glass and len(message.break_glass.strip()) < MIN_GLASS:
        raise BadRequest(
            f"break_glass of '{verb}' is '{message.break_glass}'; say in {MIN_GLASS} characters or more what is on fire"
        )


def is_person(caller: Caller) -> bool:
    """Tell whether a caller can agree to something: a user other than root, and not code of the process."""
    return caller.owner not in (None, 0, NOBODY) and caller.via != "process"


def may_approve(approver: Caller, proposer: Caller) -> str:
    """Return why a caller may not agree to a proposal; empty if it may."""
    if not is_person(approver):
        return f"'{approver.principal}' is not one person, so it cannot agree to anything"
    if approver.owner == proposer.owner:
        return f"'{proposer.principal}' has proposed it, and belongs to the same user; another person must agree"
    return ""


def may_apply(applier: Caller, proposer: Caller, approver: Caller | None) -> str:
    """Return why a caller may not apply a proposal; empty if it may."""
    if approver is not None and applier.owner == approver.owner:
        return f"'{approver.principal}' has approved it, and belongs to the same user; another one must apply it"
    if proposer.is_rule and not is_person(applier):
        remedy = "use an account of your own"
        return f"a rule has proposed it, so a person must apply it, and not '{applier.principal}': {remedy}"
    return ""
