"""The house itself, before an installed copy of it; property-based tests are the same at every run."""
import hypothesis

hypothesis.settings.register_profile("fastconv", derandomize=True, deadline=None, max_examples=100)
hypothesis.settings.load_profile("fastconv")
