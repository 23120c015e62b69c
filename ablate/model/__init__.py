"""The bi-encoder and its training: text to tokens, tokens to vectors, the loss, and the Lightning loop."""
