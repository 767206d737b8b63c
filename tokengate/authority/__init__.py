# Authority: who may do what, and who has agreed.
#
#   _authority.py  the door: decides about each message, and has its intent recorded
#   _admitted.py   what one message may do, asked while it is answered
#   _verbs.py      the answers to verbs about proposals, the freeze, the caller
#   _audit_verbs.py  the answers to verbs about the audit log
#   _proposals.py  verbs with their targets resolved, not done yet
#   _freeze.py     whether all that rules ask for is refused
#   _events.py     what the door publishes
#   _consent.py    calls that wait for consent: a proposal of each
#   _grants.py     which caller has which right where
#   _file.py       what the file says of these: its sections
#   _recorder.py   what is recorded of messages
#   _ports.py      what the parts of this room ask of the door
#   _decide.py     guards, and who may agree to what: functions of what they are given
"""Authority: rights, guards, proposals; part of every gate."""
