"""Several cameras and several bundles in one process, round by round."""
