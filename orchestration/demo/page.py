"""The demo page, in Gradio: a picture or a sentence in, a mesh in a viewer, a turntable and downloads out."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from orchestration.demo.maker import Made, Maker
from orchestration.errors import OrbitforgeError
from stages.errors import InputError

TITLE = "Orbitforge: from one image to 3D"
CSS = "#picture img { width: 100%; height: 100%; object-fit: contain }"  # small pictures as large as others
DOWNLOADS = ("GLB", "OBJ", "PLY", "MP4", "PNG")
WAITING = 8  # assets that may wait for their turn
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # none is fetched
NOTE = (
    "Transparency is used where there is any; else the background should be plain. It stays on this machine; what "
    "is not downloaded is gone when the server ends."
)


def page(maker: Maker) -> gr.Blocks:
    """Both ways to an asset wait in one queue; what a person can put right is told in one line."""
    usual, able = maker.model.config.elevation, maker.lacking is None
    heights = [(f"{usual:g} degrees up, the usual", "usual"), ("an estimated height", "auto"), ("as I say", "degrees")]
    if maker.height is None:
        del heights[1]

    def from_picture(file: dict[str, Any] | None, how: str, degrees: float | None) -> list[Any]:
        return _shown(lambda: maker.from_picture(_uploaded(file, maker.folder), _elevation(how, degrees)))

    def from_sentence(prompt: str | None, seed: float | None, how: str, degrees: float | None) -> list[Any]:
        return _shown(lambda: maker.from_sentence(prompt or "", int(seed or 0), _elevation(how, degrees)))

    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        gr.Markdown(f"## {TITLE}\nmodel `{maker.model.md5[:12]}`")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                picture = gr.Image(label="Picture", sources=["upload", "clipboard"], height=230, elem_id="picture")
                gr.Markdown(NOTE)
                how = gr.Radio(heights, value="usual", label="Seen from", elem_id="how")
                degrees = gr.Number(usual, label="Degrees up, -89 to 89", visible=False, elem_id="degrees")
                again = gr.Button("Make it from the picture", size="md", elem_id="again")
                with gr.Group():
                    prompt = gr.Textbox(
                        label="Or say what it is",
                        placeholder="a red wooden chair",
                        max_length=400,
                        interactive=able,
                        elem_id="prompt",
                    )
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, interactive=able)
                go = gr.Button("Make it from the sentence", size="md", interactive=able, elem_id="go")
                gr.Markdown(_plain(maker.lacking or ""), visible=not able, elem_id="lacking")
            with gr.Column(scale=2):
                viewer = gr.Model3D(
                    label="Mesh", clear_color=(1, 1, 1, 1), height=460, interactive=False, elem_id="view"
                )
                told = gr.Markdown(elem_id="told")
                with gr.Row():
                    turntable = gr.Video(
                        label="Turntable", autoplay=True, loop=True, height=230, interactive=False, elem_id="turntable"
                    )
                    with gr.Column(elem_id="downloads"):
                        downloads = [gr.DownloadButton(name, size="md", interactive=False) for name in DOWNLOADS]
        how.change(lambda how: gr.Number(visible=how == "degrees"), how, degrees, show_progress="hidden")

        outputs = [viewer, turntable, told, picture, *downloads]
        alone = {"concurrency_limit": 1, "concurrency_id": "asset", "show_progress_on": viewer}
        # the file as it was uploaded (preprocess): Gradio would convert it, and lose alpha, 16 bit and the reasons
        pictures = [picture.upload, again.click]
        gr.on(pictures, from_picture, [picture, how, degrees], outputs, api_name="picture", preprocess=False, **alone)
        sentences = [prompt.submit, go.click]
        gr.on(sentences, from_sentence, [prompt, seed, how, degrees], outputs, api_name="sentence", **alone)
    return blocks.queue(max_size=WAITING)


def _uploaded(file: dict[str, Any] | None, folder: Path) -> Path:
    path = Path((file or {}).get("path") or "").resolve()
    if not (path.is_relative_to(folder) and path.is_file()):
        raise InputError("a picture is wanted; if it was uploaded long ago, upload it again")
    return path


def _elevation(how: str, degrees: float | None) -> str | float | None:
    return {"usual": None, "auto": "auto"}.get(how, float("nan") if degrees is None else degrees)


def _shown(make: Callable[[], Made]) -> list[Any]:
    try:
        made = make()
    except (OrbitforgeError, InputError, OSError) as error:
        raise gr.Error(_plain(str(error)), duration=None, print_exception=False) from None
    files = [made.glb, made.obj, made.ply, made.turntable, made.picture]
    buttons = [gr.DownloadButton(value=file, interactive=True) for file in files]
    # from where the picture was taken: Babylon's angles from x and from above
    mesh = gr.Model3D(str(made.glb), camera_position=(0, 90 - made.extras["elevation"], None))
    return [mesh, made.turntable, _plain(made.told), made.picture, *buttons]


def _plain(text: str) -> str:
    """One line that no browser takes for HTML."""
    return html.escape(" ".join(text.split()), quote=False)
