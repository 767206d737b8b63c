# Mailboxes: where tokens wait.
#
#   _mailbox.py          a bounded user lane, an unbounded control lane, and what a full mailbox does
#   _durable_mailbox.py  that of durable tokens, which are on disk before
#   _lanes.py            stable priority: the user lane's order
#   _held_tokens.py      tokens beside the lanes: paused, kept back, released
#   _line.py             tokens that wait, by priority and then by age
#   _fair_line.py        the same, where keys take turns
#   _fair_lanes.py       the user lane's order where keys take turns
#   _throttles.py        limits of rate and concurrency
#   _rule.py             one of them: what each attempt needs a grant of
#   _signals.py          messages of the control lane
#   _statistics.py       the figures of a mailbox
"""Mailboxes, their lanes, and throttles."""
