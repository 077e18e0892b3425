"""``fairstream demo``: the pipeline, a feed of what it says, a view of that, and words for it."""

from streams.demo.run import run_demo

__all__ = ["run_demo"]
