"""Measurements of Wisp beside its peers and its floor, all in one report format.

A benchmark prepares what it needs, runs its cases interleaved, and gives a
:class:`~wisp.bench.figures.Report` whether or not the bars hold. It may use drivers
directly; nothing else imports this room but ``assembly``.

>>> from wisp.bench.figures import Figure
>>> Figure.of_samples("spt_ms", [0.4, 0.5, 0.6], unit="ms", bar="<= 1").holds
True
"""
