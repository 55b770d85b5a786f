"""From what is declared and seen to what shall exist, with reasons: placement, addresses, routes."""
