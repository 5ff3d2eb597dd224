"""Networks without a session: backbones, the prompt generator, checkpoints."""
