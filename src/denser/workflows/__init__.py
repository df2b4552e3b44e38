"""Workflows join the layers below and hold no physics of their own."""
