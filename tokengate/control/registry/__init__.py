# Registry: what is derived from the declaration of a verb.
#
#   _verbs.py  typed methods, their text and signature
"""The registry of verbs: each is declared once, as its message; what follows from the declaration is here."""
