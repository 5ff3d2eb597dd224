"""Proxy Prompt: turns support pairs into a prompt; knows no SAM."""
