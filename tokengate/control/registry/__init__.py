# Registry: verbs, nouns and plugins, each declared once.
#
#   _plugin.py  the optional parts of a gate
#   _verbs.py   typed methods, their text and signature
"""Declarations: verbs, nouns, and the optional parts of a gate; and what follows from them."""

from tokengate.control.registry._plugin import Plugin

__all__ = ["Plugin"]
