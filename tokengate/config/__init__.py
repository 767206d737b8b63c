# The file `tokengate.toml`: found, parsed and checked as a whole.
#
#   _file.py        finds and reads the file
#   _sections.py    what rooms register: the sections, each with its parser
#   _control.py     `[control]`: other users that may connect
#   _names.py       users and groups by their names
#   _report.py      the errors of a file, each with its line
#   _lines.py       the line of each key
"""The file `tokengate.toml`: its sections, their rows, its errors."""
