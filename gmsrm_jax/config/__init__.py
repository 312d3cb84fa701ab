"""The config of a run: its typed fields, the argument of a card, and the config of a workdir."""
