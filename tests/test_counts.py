"""Numbers of things in sentences."""

import pytest

from gmsrm_jax.runtime.counts import count_of


@pytest.mark.parametrize(
    ("number", "form", "said"),
    [(0, "", "0 masks"), (1, "", "1 mask"), (2, "", "2 masks"), (1234, ",", "1,234 masks")],
)
def test_one_thing_has_no_plural(number, form, said):
    assert count_of(number, "mask", form) == said
