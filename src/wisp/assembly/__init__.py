"""The entry point: reads settings, chooses drivers, wires them, and hands out the facade."""
