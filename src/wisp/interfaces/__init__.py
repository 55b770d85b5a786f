"""How people and programs reach a cloud."""
