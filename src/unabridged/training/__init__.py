"""Training: small encoders from scratch, and longer reading for encoders that exist."""
