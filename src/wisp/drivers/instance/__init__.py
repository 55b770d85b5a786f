"""One driver per kind of instance, all behind ``ports.instance``."""
