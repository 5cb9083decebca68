"""How candidate views are curated: what matches them, and which are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.config import WeightsConfig


class MatcherConfig(BaseModel):
    """What finds points that two views share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["tokens", "sift", "loftr"] = Field(
        "tokens",
        description="patch tokens of base_models' encoder; scikit-image's SIFT; kornia's LoFTR (extra `loftr`)",
    )
    layer: int = Field(1, ge=0, description="tokens: the encoder's layer that they are taken after, 0 is the first")
    size: int = Field(
        64, ge=8, description="pixels a side that views are resized to; tokens and loftr want a multiple of 8"
    )
    least: float = Field(0.1, ge=0, le=1, description="confidence below which a match does not count")
    weights: WeightsConfig | None = Field(
        None, description="loftr: a .safetensors file of kornia's LoFTR; it cannot run without"
    )

    @model_validator(mode="after")
    def _fits(self) -> MatcherConfig:
        if self.kind == "loftr" and self.size % 8:
            raise ValueError(f"loftr takes pictures of a multiple of 8 pixels a side, not of {self.size}")
        if self.kind != "loftr" and self.weights:
            raise ValueError(f"{self.kind} takes no weights; only loftr does")
        return self


class SupportConfig(BaseModel):
    """How views are held against one another. The values were chosen on spoiled pools of training renders; no kind of
    spoil hangs on any of them (AUC .95 to .96 for half and twice of each)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(4, ge=1, description="in which trust follows from support and support from trust")
    contrast: float = Field(4.0, gt=0, description="of trust: steepness over the spread of support in the pool")
    reach: float = Field(40.0, gt=0, description="degrees between cameras beyond which a colour is hardly asked for")
    carved: float = Field(
        0.7, ge=0, lt=1, description="share of the witnesses' trust that must have a point inside for it to be solid"
    )
    colour: float = Field(0.4, gt=0, description="difference in RGB, as a length, at which nothing is confirmed")


class BackConfig(BaseModel):
    """When the back of the orbit is a query beside the front. The classifier judges the clip as a whole, and a clip is
    good on average with one bad view in it: so the back has to hold by itself as well."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float | None = Field(None, ge=0, le=1, description="least score of the clip; null: the classifier's own")
    overlap: float = Field(
        0.6, ge=0, le=1, description="least IoU with the front's silhouette, mirrored: nine of ten rendered backs"
    )
    sharpness: float = Field(
        0.8, ge=0, description="least strength of edges over the front's: 99 of a hundred rendered backs"
    )


class CurationConfig(BaseModel):
    """Flex3D tells that views are matched against the front, and against the back where the classifier trusts it, and
    that the number of matches decides. It does not tell the rule; the factor is recalled, the rest is ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    matcher: MatcherConfig = MatcherConfig.model_validate({})
    by: Literal["support", "matches"] = Field(
        "support",
        description="what decides: how much of a view the others confirm along the rays of the cameras that were asked "
        "for, or the number of its matches with a query alone, as in the paper",
    )
    support: SupportConfig = SupportConfig.model_validate({})
    back: BackConfig = BackConfig.model_validate({})
    spread: float = Field(
        0.6, ge=0, description="a view is kept above mean - spread * standard deviation in its pool (recalled, Flex3D)"
    )
    faultless: float = Field(
        0.3,
        ge=0,
        description="spread over mean below which a pool counts as one without faults, as 19 of 20 rendered pools are: "
        "the threshold is no nearer to the mean than with this spread",
    )
    fewest: int = Field(
        3, ge=1, description="views a pool must keep for a training to read it; two of them are the front, in any case"
    )
    band: tuple[float, float] = Field((0.2, 0.98), description="least and largest kept share that raise no alarm")
