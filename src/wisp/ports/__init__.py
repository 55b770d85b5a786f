"""What Wisp asks of the world, as protocols: instances, the network, stored state, images, health.

Knows only ``model`` and ``primitives``. Each port has a contract suite in ``wisp.testing``
that every driver passes.
"""
