"""Weights: pickles by any name, headers that lie, configs of other sizes, layouts that bring code or lead out."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file

from tests.hostile.case import MARK, Attack, Place
from tests.orchestration.test_reconstruct_command import young_model


class _Runs:
    """What a pickle may do when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def _pickled(place: Place) -> bytes:
    return pickle.dumps(_Runs(place.ran))


def _torch(place: Place) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": _Runs(place.ran)}, buffer)
    return buffer.getvalue()


@cache
def _model() -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        young_model(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _header(header: Any, data: bytes = b"", *, told: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if told is None else told) + text + data


def _tensor(shape: Any, start: Any, end: Any, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def _file(name: str, make: Any, harmless: str = "", called: str = "model.safetensors") -> Attack:
    """One file of weights beside a config of ours."""

    def build(place: Place) -> Path:
        (place.given / "config.json").write_bytes(_model()["config.json"])
        path = place.given / called
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make if isinstance(make, bytes) else make(place))
        return path

    return Attack(name, build, harmless)


def _config(name: str, change: Any) -> Attack:
    """Good weights beside another config."""

    def build(place: Place) -> Path:
        (place.given / "model.safetensors").write_bytes(_model()["model.safetensors"])
        config = json.loads(_model()["config.json"])
        text = change if isinstance(change, bytes) else json.dumps(_merged(config, change)).encode()
        (place.given / "config.json").write_bytes(text)
        return place.given / "model.safetensors"

    return Attack(name, build)


def _merged(config: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return config | {k: _merged(config[k], v) if isinstance(v, dict) and k in config else v for k, v in change.items()}


def _changed(**tensors: Any) -> Any:
    """The model's weights with some tensors changed by a function."""

    def make(_: Place) -> bytes:
        from safetensors.torch import load

        weights = load(_model()["model.safetensors"])
        first = next(iter(weights))
        weights[first] = tensors["first"](weights[first])
        return save(weights)

    return make


def _folder(place: Place) -> Path:
    (place.given / "model.safetensors").mkdir()
    return place.given / "model.safetensors"


def _zip_of_code(place: Place) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(place))
    return buffer.getvalue()


GOOD = _tensor([2], 0, 8)

CHECKPOINTS = (
    _file("good weights", lambda _: _model()["model.safetensors"], "they are loaded"),
    _file("pickle called safetensors", _pickled),
    _file("torch file called safetensors", _torch),
    _file("old pickle called safetensors", lambda place: pickle.dumps(_Runs(place.ran), protocol=0)),
    _file("torch zip called safetensors", _zip_of_code),
    _file("pickle called pt", _torch, called="a.pt"),
    _file("pickle called bin", _pickled, called="pytorch_model.bin"),
    _file(
        "numpy file of objects",
        lambda place: b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n" + _pickled(place),
    ),
    _file("header of 2^60 bytes", _header({}, told=2**60)),
    _file("header of 2^64 - 1 bytes", _header({}, told=2**64 - 1)),
    _file("header of 100,000 brackets", _header(b"[" * 100_000)),
    _file("header of 100,000 maps", _header(b'{"a":' * 100_000)),
    _file("header that is a list", _header([])),
    _file("header of noise", _header(bytes(range(128, 256)))),
    _file("header with a number of 5,000 digits", _header(b'{"a": ' + b"9" * 5000 + b"}")),
    _file("no header", b"\0" * 8),
    _file("four bytes", b"\0\0\0\0"),
    _file("nothing", b""),
    _file("offsets that overlap", _header({"a": GOOD, "b": GOOD}, b"\0" * 8)),
    _file("offsets backwards", _header({"a": _tensor([2], 8, 0)}, b"\0" * 8)),
    _file("offsets below zero", _header({"a": _tensor([2], -8, 0)}, b"\0" * 8)),
    _file("offsets of text", _header({"a": _tensor([2], "0", "8")}, b"\0" * 8)),
    _file("offsets past the end", _header({"a": _tensor([2], 0, 2**50)}, b"\0" * 8)),
    _file("shape below zero", _header({"a": _tensor([-2], 0, 8)}, b"\0" * 8)),
    _file("shape of 2^62", _header({"a": _tensor([2**62, 2**62], 0, 8)}, b"\0" * 8)),
    _file("shape of text", _header({"a": _tensor("22", 0, 8)}, b"\0" * 8)),
    _file("shape of a number", _header({"a": _tensor(2, 0, 8)}, b"\0" * 8)),
    _file("shape of lists", _header({"a": _tensor([[2]], 0, 8)}, b"\0" * 8)),
    _file("type that lies", _header({"a": _tensor([2], 0, 8, "F64")}, b"\0" * 8)),
    _file("type that is unknown", _header({"a": _tensor([2], 0, 8, "OBJECT")}, b"\0" * 8)),
    _file("entry that is a number", _header({"a": 5}, b"\0" * 8)),
    _file("100,000 names", lambda _: save({f"layers.{k}.weight": torch.zeros(1) for k in range(100_000)})),
    _file("names of escape sequences", save({"\x1b]0;x\x07\x1b[2J": torch.zeros(1)})),
    _file("name of layer 10^9", save({"transformer.layers.999999999.a": torch.zeros(1)})),
    _file("weights of NaN", _changed(first=lambda t: t * float("nan"))),
    _file("weights of infinity", _changed(first=lambda t: t + float("inf"))),
    _file("weights of another shape", _changed(first=lambda t: t[..., None])),
    _file("weights of whole numbers", _changed(first=lambda t: t.long()), "numbers as any"),
    Attack("folder called safetensors", _folder),
    _config("config of width 10^9", {"width": 10**9, "heads": 1}),
    _config("config of width 2^62", {"width": 2**62, "heads": 1}),
    _config("config of 10^9 layers", {"layers": 10**9}),
    _config("config of 10^9 heads", {"heads": 10**9}),
    _config("config of 10^9 decoder layers", {"decoder_layers": 10**9}),
    _config("config of 10^9 plane tokens", {"plane_tokens": 10**9}),
    _config("config of 10^9 samples a ray", {"samples": 10**9}),
    _config("config of pictures of 10^6", {"encoder": {"image_size": 10**6}}),
    _config("config of a table of 10^9", {"encoder": {"table_size": 10**9}}),
    _config("config of 10^9 encoder layers", {"encoder": {"layers": 10**9}}),
    _config("config of a box without end", json.dumps({"a": 7.5}).replace("7.5", "1e999").encode()),
    _config("config with code", {"auto_map": {"AutoModel": "evil.Model"}, "trust_remote_code": True}),
    _config("config of 100,000 brackets", b'{"plane_tokens": ' + b"[" * 100_000),
    _config("config of bytes", b"\xff\xfe\x80"),
    _config("config that is a list", b"[1]"),
    _config("config of escape sequences", {"\x1b[31m": 1}),
)


# layouts of diffusers and transformers

CODE = "import os\nos.system('touch MARK')\nclass Model:\n    pass\n"


def _layout(name: str, files: dict[str, Any], *, part: str = "text_to_image", harmless: str = "") -> Attack:
    def build(place: Place) -> tuple[Path, str]:
        home = place.given / "layout"
        for inside, data in files.items():
            path = home / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(data):
                data = data(place)
            if isinstance(data, dict | list):
                data = json.dumps(data)
            if isinstance(data, str):
                data = data.replace("MARK", str(place.ran)).encode()
            path.write_bytes(data)
        return home, part

    return Attack(name, build, harmless)


def _with_link(place: Place) -> tuple[Path, str]:
    """A good encoder of ours, whose settings are a link to a file of the user's."""
    home = _encoder(place.given / "layout")
    (place.root / "secret.json").write_text('{"secret": true}')
    (home / "secret.json").symlink_to(place.root / "secret.json")
    return home, "encoder"


def _encoder(home: Path) -> Path:
    from models.checkpoints import save as save_model
    from models.encoder import Encoder
    from orchestration.presets.schema import load_preset

    config = load_preset("nano").base.encoder.encoder
    save_model(Encoder(config), config, home)
    return home


def _index_above(place: Place) -> tuple[Path, str]:
    """An encoder whose index names weights above the layout: copied by their names, they would land elsewhere."""
    home = _encoder(place.given / "layout")
    save_file(load_file(home / "model.safetensors"), place.given / f"{MARK}.safetensors")
    (home / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": f"../{MARK}.safetensors", "b": "model.safetensors"}})
    )
    return home, "encoder"


def _pipeline_index_above(place: Place) -> tuple[Path, str]:
    home, _ = _pipeline(place, {})
    part = next(folder for folder in sorted(home.iterdir()) if any(folder.glob("*.safetensors")))
    weights = next(part.glob("*.safetensors"))
    (home.parent / f"{MARK}.safetensors").write_bytes(weights.read_bytes())
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": f"../../{MARK}.safetensors"}})
    )
    return home, "text_to_image"


SMALL = {"size": 16, "latent_channels": 4, "autoencoder_width": 16, "widths": [8, 16], "text_width": 16}


def _pipeline(place: Place, files: dict[str, Any]) -> tuple[Path, str]:
    """The smallest pipeline that loads, with some files of its own."""
    from models.config import TextToImageConfig
    from models.text_to_image import TextToImage, word_tokenizer

    home = place.given / "layout"
    config = TextToImageConfig.model_validate(SMALL)
    TextToImage(config, word_tokenizer(["a chair"], config.tokens)).save(home)
    for inside, data in files.items():
        path = home / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(path.read_text()) if path.is_file() and isinstance(data, dict) else {}
        text = json.dumps(old | data) if isinstance(data, dict) else data
        path.write_text(text.replace("MARK", str(place.ran)))
    return home, "text_to_image"


def _changed_pipeline(name: str, files: dict[str, Any], harmless: str = "") -> Attack:
    return Attack(name, lambda place: _pipeline(place, files), harmless)


INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["evil", "Model"]}

LAYOUTS = (
    _changed_pipeline("a good pipeline", {}, "it becomes a base model"),
    Attack("a good encoder", lambda place: (_encoder(place.given / "layout"), "encoder"), "it becomes a base model"),
    _layout(
        "pipeline with a module of its own", {"model_index.json": INDEX, "unet/evil.py": CODE, "unet/config.json": {}}
    ),
    _layout(
        "pipeline that is a module of its own",
        {"model_index.json": {"_class_name": ["pipeline", "Evil"]}, "pipeline.py": CODE},
    ),
    _layout(
        "pipeline called pipeline.py", {"model_index.json": {"_class_name": "DiffusionPipeline"}, "pipeline.py": CODE}
    ),
    _layout(
        "pipeline of a part from os",
        {
            "model_index.json": {"_class_name": "StableDiffusionPipeline", "unet": ["os", "system"]},
            "unet/config.json": {},
        },
    ),
    _layout(
        "pipeline of a part from subprocess",
        {
            "model_index.json": {"_class_name": "StableDiffusionPipeline", "unet": ["subprocess", "Popen"]},
            "unet/config.json": {},
        },
    ),
    _layout(
        "pipeline of parts in other folders",
        {"model_index.json": {"_class_name": "StableDiffusionPipeline", "../../x": ["diffusers", "UNet2DModel"]}},
    ),
    _layout("class that is no pipeline", {"model_index.json": {"_class_name": "logging"}}),
    _layout("class that is a number", {"model_index.json": {"_class_name": 5}}),
    _layout("index of 100,000 brackets", {"model_index.json": "[" * 100_000}),
    _layout("index that is a list", {"model_index.json": []}),
    _layout("index of bytes", {"model_index.json": b"\xff\xfe\x80"}),
    _layout(
        "pipeline of pickles",
        {
            "model_index.json": {
                "_class_name": "StableDiffusionPipeline",
                "unet": ["diffusers", "UNet2DConditionModel"],
            },
            "unet/config.json": {},
            "unet/diffusion_pytorch_model.bin": _torch,
        },
    ),
    _changed_pipeline(
        "text encoder that maps to code",
        {
            "text_encoder/config.json": {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"},
            "text_encoder/evil.py": CODE,
            "model_index.json": {"text_encoder": ["transformers", "AutoModel"]},
        },
    ),
    _changed_pipeline(
        "tokenizer that maps to code",
        {
            "tokenizer/tokenizer_config.json": {
                "auto_map": {"AutoTokenizer": ["evil.Model", None]},
                "tokenizer_class": "Evil",
            },
            "tokenizer/evil.py": CODE,
            "model_index.json": {"tokenizer": ["transformers", "AutoTokenizer"]},
        },
    ),
    _changed_pipeline(
        "tokenizer with a template of code",
        {"tokenizer/chat_template.jinja": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
        "it is never rendered",
    ),
    _changed_pipeline(
        "pipeline with code that nobody names", {"unet/evil.py": CODE, "setup.py": CODE}, "it is left behind"
    ),
    _changed_pipeline(
        "unet of 10^9 layers",
        {
            "unet/config.json": {"layers_per_block": 10**9, "num_layers": 10**9},
            "transformer/config.json": {"num_layers": 10**9},
        },
    ),
    _changed_pipeline(
        "text encoder of 10^9 words", {"text_encoder/config.json": {"vocab_size": 10**9, "hidden_size": 10**6}}
    ),
    _changed_pipeline("tokenizer of 100,000 brackets", {"tokenizer/tokenizer.json": "[" * 100_000}),
    Attack("pipeline whose index names weights above it", _pipeline_index_above),
    Attack("encoder whose index names weights above it", _index_above),
    Attack("encoder with settings that are a link out", _with_link),
    _layout(
        "encoder that maps to code",
        {
            "config.json": {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"},
            "evil.py": CODE,
            "model.safetensors": save({"a": torch.zeros(1)}),
        },
        part="encoder",
    ),
    _layout(
        "encoder of code from a repository",
        {
            "config.json": {"auto_map": {"AutoConfig": "someone/evil--evil.Config"}, "model_type": "evil"},
            "model.safetensors": save({"a": torch.zeros(1)}),
        },
        part="encoder",
    ),
    _layout(
        "encoder of 10^9 layers",
        {
            "config.json": {"model_type": "dinov2", "num_hidden_layers": 10**9},
            "model.safetensors": save({"a": torch.zeros(1)}),
        },
        part="encoder",
    ),
    _layout(
        "encoder of width 10^9",
        {
            "config.json": {"model_type": "dinov2", "hidden_size": 10**9, "num_attention_heads": 1},
            "model.safetensors": save({"a": torch.zeros(1)}),
        },
        part="encoder",
    ),
    _layout(
        "encoder that is a pickle",
        {"config.json": {"model_type": "dinov2"}, "pytorch_model.bin": _torch},
        part="encoder",
    ),
    _layout(
        "encoder config of 100,000 brackets",
        {"config.json": "[" * 100_000, "model.safetensors": save({"a": torch.zeros(1)})},
        part="encoder",
    ),
    _layout("encoder config of bytes", {"config.json": b"\xff\xfe", "model.safetensors": b""}, part="encoder"),
    _layout(
        "encoder index without a map",
        {"config.json": {"model_type": "dinov2"}, "model.safetensors": save({}), "model.safetensors.index.json": {}},
        part="encoder",
    ),
    _layout(
        "encoder index of numbers",
        {
            "config.json": {"model_type": "dinov2"},
            "model.safetensors": save({}),
            "model.safetensors.index.json": {"weight_map": {"a": 5, "b": [1]}},
        },
        part="encoder",
    ),
    _layout(
        "encoder index of 100,000 brackets",
        {
            "config.json": {"model_type": "dinov2"},
            "model.safetensors": save({}),
            "model.safetensors.index.json": "[" * 100_000,
        },
        part="encoder",
    ),
    _layout(
        "video model of other sizes",
        {"config.json": {"family": "wan", "width": 10**9}, "model.safetensors": save({"a": torch.zeros(1)})},
        part="video",
    ),
    _layout(
        "video config of 100,000 brackets", {"config.json": "[" * 100_000, "model.safetensors": save({})}, part="video"
    ),
    _layout(
        "video model that is a pickle", {"config.json": {"family": "wan"}, "model.safetensors": _torch}, part="video"
    ),
    _layout(
        "model card of tags that run",
        {"README.md": "---\nlicense: !!python/object/apply:os.system ['touch MARK']\n---\n"},
        part="encoder",
    ),
    _layout(
        "model card of laughs",
        {
            "README.md": "---\n"
            + "a0: &a0 [lol, lol]\n"
            + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12))
            + "license: *a11\n---\n"
        },
        part="encoder",
    ),
    _layout(
        "model card of escape sequences",
        {"README.md": '---\nlicense: "\\e]0;x\\a"\n---\n', "config.json": {}, "model.safetensors": save({})},
        part="encoder",
    ),
)
