# Kinds: what users subclass, and what serves their functions.
#
#   _cpu_actor.py                actors on CPU threads
#   _io_actor.py                 actors on the trio loop
#   _asyncio_actor.py            actors on an asyncio loop
#   _process_actor.py            actors in a child process of their own
#   _task_actor.py               an async function as an actor
#   _pykka_actor.py              classes that were written for pykka
#   _jobs.py                     tasks of an actor beside its mailbox
#   _operation_place.py          the place of a function, and direct calls of it
#   _durable_operation_place.py  the same, with durable tokens
"""Kinds of actors, and the place of an operation."""
