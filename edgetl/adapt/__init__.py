"""Adapting a network to a domain that has no labels, behind a gate."""
