"""Bundles that replace each other on a vehicle: verified, tried beside the old one, and taken back where they fail."""
