# The audit log: what was asked for, by whom, and what became of it. Its files:
#
#   _log.py       the log of a gate: intents, releases, refusals
#   _writer.py    the thread that writes: batches, a disk that fails or hangs, heads
#   _refusals.py  refusals, folded
#   _appender.py  a log while it is written: what is done before and after each batch
#   _opening.py   what is done when it is opened: the end of the chain, what the last writer left undone
#   _files.py     segments, key, reserve, lock
#   _directory.py the directory, of the gate's user alone
#   _disk.py      the calls that a full, broken or hung disk makes fail or hang
#   _verify.py    verification: records, key file, heads
#   _check.py     the checks of lines
#   _read.py      records read back; sealing
#   _chain.py     keys and macs
#   _record.py    an entry, and its JSON
"""The audit log: a chain of records, each of which is on disk before what it records is done."""

from tokengate.audit._log import AuditLog
from tokengate.audit._read import first_key, read, seal
from tokengate.audit._record import Caller, Entry
from tokengate.audit._verify import Verification, verify

__all__ = ["AuditLog", "Caller", "Entry", "Verification", "first_key", "read", "seal", "verify"]
