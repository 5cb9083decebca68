"""What is asked of every model: protocols as data. Those that ship lie beside this module, in `shipped`.

    kind: single-image    objects by makers whose work was not trained on: one fixed input view, a fixed ring of targets
    kind: text            prompts, each drawn once; the picture of it is the input of every model
    kind: pictures        any folder of pictures, without a ground truth

A protocol has an id and a hash. The hash that stands beside numbers is that of `sealed`, which covers the data and the
judges as well: equal names mean comparable numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.documents import DocumentError, read_yaml
from stages.errors import InputError

FOLDER = Path(__file__).parent / "shipped"


class _Protocol(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")

    @property
    def hash(self) -> str:
        """Of what the protocol says itself, eight hexadecimal digits."""
        return sealed(self, {})["hash"]

    @property
    def name(self) -> str:
        return f"{self.id}-{self.hash}"


class SingleImage(_Protocol):
    """Reconstruction of rendered objects from one view, compared with the others of its orbit."""

    kind: Literal["single-image"]
    split: Literal["held-out", "validation", "train"] = Field("held-out", description="splits are by maker")
    input_azimuth: float = Field(225.0, description="degrees; the view nearest to it is the input")
    every: int = Field(1, ge=1, description="every so manyth of the other views is a target")
    most: int | None = Field(200, ge=1, description="objects at most, chosen by the hash of their names; null: all")


class _Shown(_Protocol):
    """A ring of views around what was made of a picture."""

    views: int = Field(8, ge=1, le=1000, description="evenly spaced, from the camera of the picture on")
    size: int = Field(64, ge=16, le=4096, description="pixels a side")
    elevation: float = Field(20.0, ge=-89, le=89, description="degrees, of the picture's camera and of the ring")
    radius: float = Field(1.5, gt=0)
    focal: float = Field(0.75, gt=0)
    fill: float = Field(0.72, gt=0, le=1, description="share of the picture that the object's longer side takes")


class Text(_Shown):
    """Text to 3D: each prompt is drawn, and its picture reconstructed."""

    kind: Literal["text"]
    prompts: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, description="another one draws other pictures")


class Pictures(_Shown):
    """Pictures of anything, one object each."""

    kind: Literal["pictures"]
    folder: str = Field("", description="of pictures; where it is relative, beside the protocol's own file")


Protocol = Annotated[SingleImage | Text | Pictures, Field(discriminator="kind")]
_PROTOCOL: TypeAdapter[SingleImage | Text | Pictures] = TypeAdapter(Protocol)


def shipped() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_protocol(named: str) -> SingleImage | Text | Pictures:
    """The protocol of an id that ships or of a YAML file; of a folder of pictures, `pictures` with that folder.

    Raises InputError that says what is wrong, or what there is to choose from.
    """
    path = Path(named)
    if path.is_dir():
        return read_protocol("pictures").model_copy(update={"folder": str(path.resolve())})
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{named}.yaml"
        if named not in shipped():
            raise InputError(
                f"no protocol {named!r}; choose one of {', '.join(shipped())}, a .yaml file or a folder of pictures"
            )
    try:
        values = read_yaml(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; name a protocol's .yaml") from None
    except DocumentError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no protocol; give it `kind:` and `id:`")
    try:
        found = _PROTOCOL.validate_python({"id": path.stem, **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "kind"
        raise InputError(f"{path}: {where}: {first['msg']}; put it right") from None
    if isinstance(found, Pictures) and found.folder:
        return found.model_copy(update={"folder": str((path.parent / found.folder).resolve())})
    return found


def sealed(protocol: _Protocol, data: Mapping[str, Any]) -> dict[str, Any]:
    """id, hash, name and content of a protocol on its `data`: what was shown to the models, and by what they were
    judged. Where a folder lies changes no number and stands in no hash."""
    content = {**protocol.model_dump(mode="json", exclude={"folder"}), **data}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    return {"id": protocol.id, "hash": digest, "name": f"{protocol.id}-{digest}", "content": content}
