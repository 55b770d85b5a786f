"""Text and bytes to model and back: the YAML description, stored forms, the guest's configuration line.

Above ``model``, below everybody who reads or writes. The description goes ``document`` (YAML to nodes that know
their line) → ``reader`` (nodes to the bodies that ``declared`` declares, gathering problems) → ``build`` (bodies to
the model) → ``checks`` (what must hold between parts). ``written`` goes the other way; ``schema`` and ``reference``
are made from the same declarations.

>>> from pathlib import PurePath
>>> from wisp.codec.description import parse
>>> parse("cloud: tiny", file="cloud.yaml", base=PurePath("/")).name
'tiny'
"""
