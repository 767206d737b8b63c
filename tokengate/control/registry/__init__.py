# Registry: verbs, nouns and plugins, each declared once.
#
#   _modules.py the modules that declare nouns
#   _openapi.py the document of the paths
#   _paths.py   the verbs over HTTP
#   _kinds.py   nouns with their verbs, and what answers these
#   _landed.py  the nouns of every gate
#   _plugin.py  the optional parts of a gate
#   _verbs.py   typed methods, their text and signature
"""Declarations: verbs, nouns, and the optional parts of a gate; and what follows from them."""

from tokengate.control.registry import _landed as _landed  # which registers them
from tokengate.control.registry._kinds import Facade, Kind, register
from tokengate.control.registry._plugin import Plugin
from tokengate.control.registry._verbs import asks

__all__ = ["Facade", "Kind", "Plugin", "asks", "register"]
