"""Workflows: many structures in, files out. They combine the layers below."""
