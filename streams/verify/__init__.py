"""``fairstream verify``: recount the log in plain, slow Python, and compare with what fairstream holds."""

from streams.verify.command import run_verify

__all__ = ["run_verify"]
