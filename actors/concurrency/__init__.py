# Concurrency: threads, loops and outcomes. It imports no token and no actor.
#
#   _future.py             replies and futures: outcomes that will be set once
#   _waiters.py            wake a thread or a task that waits for an outcome
#   _run_queue.py          the queue that CPU threads take work from
#   _dispatcher.py         a pool of CPU threads
#   _pinned_dispatcher.py  a dedicated CPU thread for one place
#   _condition.py          a condition and an event that an interrupted thread does not leave locked
#   _daemon_thread.py      a thread that starts at most once, even if its start is interrupted
#   _lifeline.py           a thread that keeps the process alive while something is left to wait for
#   _stall_watch.py        finds CPU threads that block in calls the runtime cannot see
#   _blocking.py           the turns on each thread, and their release while a step waits
#   _loop_host.py          what hosts of loops have in common
#   _trio_host.py          a trio loop that accepts work from other threads
#   _asyncio_host.py       asyncio loops that do so
#   _cancel_scope.py       a cancel scope for asyncio
#   _container.py          the cores and the memory that this process may use
#   _thread_frames.py    the frames of other threads, read so that the interpreter does not crash
#   _convoy.py             a wait for a lock that begins no convoy of threads
#   _alarm.py              a task that sleeps until a due time
"""Threads, loops, futures and alarms."""
