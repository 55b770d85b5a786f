"""Text and bytes to model and back: the YAML description, stored forms, the guest's configuration line."""
