"""What pre-training must beat: fine-tuning from random weights, and from the auto-encoder of stage 1."""

from clustercl.methods.base import Method


class Scratch(Method):
    """No pre-training at all."""

    pretrains = False


class AutoEncoded(Method):
    """Fine-tuning starts from the encoder of stage 1."""

    pretrains = False
    start = "autoencoder"
