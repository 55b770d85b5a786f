"""The ``wisp`` command line, a thin user of the facade it is handed."""
