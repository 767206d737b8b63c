# Places: the addresses that tokens are sent to, and the actors that work there.
#
#   _place.py          an address: path, mailbox and drain
#   _durable_place.py  the same, with durable tokens
#   _drain.py          the protocol of drains
#   _ports.py          what places ask of their system
#   _actor_place.py    the place of an actor: its status, and requests to start, stop and close it
#   _life.py           how an instance is started, visited, stopped and crashed
#   _actor.py          the base of all actors
#   _ref.py            references to actors
#   _proxy.py          an actor as an object
#   _notice.py         messages of the runtime to one instance
#   _watch.py          watches: callbacks and messages when an actor ends
#   _timers.py         messages that are sent later
#   _moves.py          sends a queued token to another place
"""Places of actors and operations, refs, watches and timers."""
