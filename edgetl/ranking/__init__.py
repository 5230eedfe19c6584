"""Which pretrained network for this data on this target: scores, how sure they are, short trials, measured time."""
