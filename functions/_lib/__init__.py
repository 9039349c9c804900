"""Shared code: folders and files that begin with _ are never loaded as functions."""
