"""From a plan and an observation to the actions that bring the one to the other."""
