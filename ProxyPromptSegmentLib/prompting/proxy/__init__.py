"""Proxy Prompt: support pairs become a prompt."""
