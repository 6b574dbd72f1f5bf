"""The house itself, before an installed copy of it; property-based tests are the same at every run."""
import hypothesis
import pytest

hypothesis.settings.register_profile("fastconv", derandomize=True, deadline=None, max_examples=100)
hypothesis.settings.load_profile("fastconv")


@pytest.fixture
def forget():
    """Forgets the plans of convolutions, before and after the test too: for tests that change how work is cut into blocks."""
    from fastconv import conv, plan

    def clear():
        plan.conv_plan.cache_clear()
        conv._plans.clear()

    clear()
    yield clear
    clear()
