"""Parts that methods share: layers, VGG-19, the patch discriminator, losses, optimizers."""
