"""Training of prompt generators that need no support, on frozen backbones whose embeddings are kept."""
