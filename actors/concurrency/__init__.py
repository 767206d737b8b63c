# Concurrency: threads, loops and outcomes. It knows no token and no actor.
#
#   _future.py             outcomes that are not there yet: replies, and pykka's futures
#   _waiters.py            what wakes a thread or a task that waits for one
#   _run_queue.py          the queue that CPU threads take work from
#   _dispatcher.py         a pool of CPU threads
#   _pinned_dispatcher.py  a CPU thread for one place alone
#   _daemon_thread.py      a thread that starts once, whatever interrupts the call that starts it
#   _stall_watch.py        finds CPU threads that block unseen
#   _blocking.py           the turns on each thread, and what is told when one waits
#   _trio_host.py          a trio loop that other threads give work to
#   _alarm.py              a task that sleeps until something is due
"""Threads, loops, futures and alarms."""
