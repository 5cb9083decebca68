"""Matchers: the points that two views share, by tokens, by SIFT and by LoFTR from disk."""

import sys

import pytest
import torch
from pydantic import ValidationError

from stages.curation.config import MatcherConfig
from stages.curation.matching import load_matcher
from stages.errors import InputError
from stages.hashing import file_md5
from tests.stages.pools import block_pools


def config(**values) -> MatcherConfig:
    return MatcherConfig.model_validate(values)


@pytest.fixture(scope="module")
def loftr(tmp_path_factory):
    """The real class with random weights. (Its confidences are then far below any use.)"""
    LoFTR = pytest.importorskip("kornia.feature").LoFTR
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("loftr") / "loftr.safetensors"
    save_file(LoFTR(pretrained=None).state_dict(), path)
    return path


@pytest.mark.parametrize("values", [{"kind": "tokens", "size": 64, "layer": 0}, {"kind": "sift", "size": 128}])
def test_a_view_matches_itself_in_place(values, encoder):
    views = block_pools()[0].views[[4, 4, 12]]
    matcher = load_matcher(config(**values), encoder)
    itself, twin, _ = matcher.match(matcher.describe(views), 0)
    assert len(itself) == len(twin) > 3
    torch.testing.assert_close(itself.view, itself.query)
    assert ((itself.view >= 0) & (itself.view <= 1)).all()


@pytest.mark.parametrize("values", [{"kind": "tokens", "size": 64, "layer": 0}, {"kind": "sift", "size": 128}])
def test_nothing_to_see_matches_nothing(values, encoder):
    views = torch.cat((torch.ones(1, 3, 32, 32), block_pools()[0].views[:1]))
    matcher = load_matcher(config(**values), encoder)
    described = matcher.describe(views)
    assert [len(found) for found in matcher.match(described, 0)] == [0, 0]
    assert len(matcher.match(described, 1)[0]) == 0


def test_tokens_lie_where_they_are_looked_for(encoder):
    """A view shifted by a whole token has its matches shifted by as much, for tokens that know no place."""
    views = block_pools()[0].views[4:5].repeat(2, 1, 1, 1)
    views[1] = views[1].roll(8, -1)
    matcher = load_matcher(config(kind="tokens", size=32, layer=0, least=0.0), encoder)
    moved = matcher.match(matcher.describe(views), 0)[1]
    assert len(moved)
    assert (moved.confidence >= 0).all()
    assert set((moved.view * 4 % 1).unique().tolist()) == {0.5}  # centres of 4 x 4 tokens


def test_fewer_matches_are_sure_than_not(encoder):
    views = block_pools()[0].views
    counts = []
    for least in (0.0, 0.1, 0.5):
        matcher = load_matcher(config(kind="tokens", size=64, layer=0, least=least), encoder)
        counts.append(sum(len(found) for found in matcher.match(matcher.describe(views), 4)))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_tokens_that_do_not_fit_the_encoder_are_refused(encoder):
    with pytest.raises(InputError, match="size 60 and layer 0"):
        load_matcher(config(kind="tokens", size=60, layer=0), encoder)
    with pytest.raises(InputError, match="layer 7"):
        load_matcher(config(kind="tokens", size=64, layer=7), encoder)


def test_loftr_runs_with_weights_from_disk(loftr, encoder):
    weights = {"at": str(loftr), "md5": file_md5(loftr)}
    matcher = load_matcher(config(kind="loftr", size=64, least=0.0, weights=weights), encoder)
    views = block_pools()[0].views[[4, 12]]
    found = matcher.match(matcher.describe(views), 0)
    assert len(found) == 2
    assert all(match.view.shape == match.query.shape == (len(match), 2) for match in found)


def test_loftr_matches_by_its_own_class(loftr, encoder):
    """Where its threshold is 0 it matches, and we count what kornia returns."""
    from kornia.feature import LoFTR
    from safetensors.torch import load_file

    weights = {"at": str(loftr), "md5": file_md5(loftr)}
    matcher = load_matcher(config(kind="loftr", size=64, least=0.0, weights=weights), encoder)
    views = block_pools()[0].views[[4, 12]]
    own = LoFTR(pretrained=None).eval()
    own.load_state_dict(load_file(loftr))
    pictures = matcher.describe(views)
    with torch.inference_mode():
        theirs = own({"image0": pictures[1:].cpu(), "image1": pictures[:1].cpu()})
    ours = matcher.match(pictures, 0)[1]
    assert len(ours) == len(theirs["confidence"])


def test_weights_that_are_missing_or_others_are_refused(loftr, encoder, tmp_path):
    with pytest.raises(InputError, match="has no weights"):
        load_matcher(config(kind="loftr"), encoder)
    gone = {"at": str(tmp_path / "gone.safetensors"), "md5": "0" * 32}
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        load_matcher(config(kind="loftr", weights=gone), encoder)
    with pytest.raises(InputError, match="the preset says"):
        load_matcher(config(kind="loftr", weights={"at": str(loftr), "md5": "0" * 32}), encoder)
    pickle = tmp_path / "loftr.ckpt"
    torch.save({"state_dict": {}}, pickle)
    with pytest.raises(InputError, match="no weights of kornia's LoFTR"):
        load_matcher(config(kind="loftr", weights={"at": str(pickle), "md5": file_md5(pickle)}), encoder)


def test_loftr_without_kornia_says_what_to_install(loftr, encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.feature", None)
    with pytest.raises(InputError, match=r"orbitforge\[loftr\]"):
        load_matcher(config(kind="loftr", weights={"at": str(loftr), "md5": file_md5(loftr)}), encoder)


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(ValidationError, match="multiple of 8"):
        config(kind="loftr", size=60)
    with pytest.raises(ValidationError, match="takes no weights"):
        config(kind="sift", weights={"at": "x", "md5": "0" * 32})
