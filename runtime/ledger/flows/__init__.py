"""Flows: chain, group and chord of steps, accepted as a whole, gone on with by the scripts that end their steps."""
