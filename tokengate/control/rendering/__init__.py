# Rendering: answers for people to read.
#
#   _tables.py  tables, trees and lines
#   _cells.py   columns and cells
"""Tables and cells."""
