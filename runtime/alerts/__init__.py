"""Alerts: rules of functions.toml are looked at over all processes of a store, and somebody is told."""
