"""All verbs of control."""

from __future__ import annotations

from tokengate.control.api._actors import ActorVerbs
from tokengate.control.api._gate import GateVerbs
from tokengate.control.api._lists import ListVerbs
from tokengate.control.api._supervisors import SupervisorVerbs
from tokengate.control.api._throttles import ThrottleVerbs
from tokengate.control.api._tokens import TokenVerbs


class Verbs(GateVerbs, ListVerbs, TokenVerbs, ThrottleVerbs, ActorVerbs, SupervisorVerbs):
    """Each verb once: the message that it sends, and what it makes of the answer."""
