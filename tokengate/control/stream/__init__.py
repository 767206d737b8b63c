# Stream: records of attempts and of what else happens, from the threads where it does to what reads them.
#   _record.py     what is recorded, as the threads of tokens make it, and which selectors can ask of it
#   _kinds.py      what published events are called, and what they say
#   _collector.py  the observers that make records, with exact counts
#   _stream.py     the thread that passes records on, and what is lost
#   _queued.py     a reader with a thread of its own, since it may block
#   _events.py     the public form of a record
"""The one stream of records of a gate."""
