# Drains: they take tokens out of mailboxes and run them.
#
#   _cpu_drain.py                on the threads of a dispatcher
#   _pinned_drain.py             on a thread of the place's own
#   _io_drain.py                 in tasks of a trio loop
#   _io_worker.py                such a task
#   _asyncio_drain.py            in tasks of an asyncio loop
#   _asyncio_operation_drain.py  in tasks of all asyncio loops that call an operation
#   _watchdog.py                 names code that blocks a loop
"""What takes tokens out of mailboxes, on threads and on loops."""
