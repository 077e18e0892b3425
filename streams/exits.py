"""Exit codes that say more than success or failure; the names and numbers are those of sysexits.h."""

EX_UNAVAILABLE = 69
"""No broker answers, or nobody else who was asked."""
EX_SOFTWARE = 70
"""An error that must not be acknowledged away, or a process that another one has replaced: start it again."""
EX_CONFIG = 78
"""The configuration is wrong: starting again would not help."""
