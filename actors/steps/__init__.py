# Steps: user code, one step at a time.
#
#   _step.py        enters, continues and leaves user code
#   _frames.py      finds a step on a stack, and decides whether it may be stopped there
#   _bytecode.py    where an exception may be raised in compiled code, and what that does behind a call
#   _monitoring.py  pauses, steps and interrupts code that runs in a thread, on Python 3.12 and later
#   _interrupt.py   interrupts code that runs in a thread, by the monitor or without it (3.11)
#   _checkpoint.py  `checkpoint()`: where plain functions can be paused and ended
"""One step of user code: entered, found on a stack, paused, interrupted."""
