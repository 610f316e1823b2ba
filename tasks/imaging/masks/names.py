"""How a mask may be called."""

from typing import Annotated

from pydantic import Field

MaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""A short plain word: it becomes a key of the store and a column of tables."""
