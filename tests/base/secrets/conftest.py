from contextlib import contextmanager

import pytest

from runtime.base.secrets import masking


@pytest.fixture(scope="session")
def hidden_within():
    """`with hidden_within():` what is hidden within is not hidden after."""

    @contextmanager
    def alone():
        hidden, pattern = set(masking._hidden), masking._pattern
        masking._hidden.clear()
        try:
            yield
        finally:
            masking._hidden.clear()
            masking._hidden.update(hidden)
            masking._pattern = pattern

    return alone
