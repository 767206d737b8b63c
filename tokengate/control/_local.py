"""The way to a gate's control actor within its process: `gate.control`."""

from __future__ import annotations

from actors import ActorRef
from tokengate.control._actor import ControlActor
from tokengate.control.api._control import Control
from tokengate.control.inspection._feeds import Feed
from tokengate.control.messages import Stream


def control_of(ref: ActorRef[ControlActor]) -> Control:
    """Return the verbs of a control actor."""

    def follow(stream: Stream) -> Feed:
        feed: Feed = ref.ask(stream)
        return feed

    return Control(ref.ask, follow, ref.call, local=True)
