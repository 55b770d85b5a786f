"""The facts Wisp thinks about, as frozen values: what is declared, planned, observed, ordered and reported.

Knows only ``primitives``. ``description`` is what a person wrote, ``plan`` what was decided, ``network`` and
``instance`` what shall exist or does, ``observation`` what was seen, ``action`` what is to be done.
"""
