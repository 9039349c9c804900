"""For authors' tests: `from runtime.testing import Harness`. Nothing of the runtime itself uses it."""

from runtime.testing.harness import Harness

__all__ = ["Harness"]
