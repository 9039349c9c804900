"""The one path of every call: bind, guard, run; an Invocation in, an Outcome out."""
