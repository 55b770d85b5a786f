"""Time, chance, identity, units and the error tree: the words every other room is written in.

Knows no other room. Nothing here reads a clock or draws a random number; it only says what those look like.

>>> from wisp.primitives.time import Duration
>>> Duration.of_ms(1500).seconds
1.5
"""
