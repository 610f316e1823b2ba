"""Names the command line offers; without pydantic, so that `--help` answers at once."""

MAPPED = ("mura", "fracatlas", "grazpedwri", "busi", "luna16")
"""Public data sets whose pictures do not say whose they are: `radloop map` writes it down."""
