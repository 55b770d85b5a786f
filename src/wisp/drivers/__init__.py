"""The ports, for real: instances, network, store, keeper, images, clock."""
