"""What all settings share."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import AfterValidator

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _name(value: str) -> str:
    if not NAME.fullmatch(value) or len(value) > 60:
        raise ValueError("a name is made of a-z, 0-9 and single hyphens, at most 60 characters")
    return value


Name = Annotated[str, AfterValidator(_name)]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
