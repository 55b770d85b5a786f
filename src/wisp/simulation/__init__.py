"""The ports again, in virtual time and without a machine."""
