"""The networks of GM-SRM as pure-functional Flax modules, and the VGG-19 features of its loss."""
