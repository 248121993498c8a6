"""The kinds of workers that we speak to (runpod.md 4): a class each, whose fields are an endpoint's options.

| kind | makes | items a call |
|---|---|---|
| passthrough | anything, for a worker of your own | as many as it makes |
| vllm, vllm-legacy | text | the batch |
| comfyui | pictures, edits, clips | the batch, if the workflow has `{{batch_size}}` |
| sdxl | pictures, edits | two; one edit |
| a1111 | pictures | the batch |
| public | text, pictures, edits, clips | one |
| image-edit | edits | one |
| mochi, generate-video | clips | one |
"""

from collections.abc import Mapping

from worker.kinds.a1111 import A1111
from worker.kinds.clips import GenerateVideo, Mochi
from worker.kinds.comfyui import Comfyui
from worker.kinds.image_edit import ImageEdit
from worker.kinds.kind import Kind
from worker.kinds.passthrough import Passthrough
from worker.kinds.public import Public
from worker.kinds.sdxl import Sdxl
from worker.kinds.vllm import Vllm, VllmLegacy

KINDS: Mapping[str, type[Kind]] = {
    "passthrough": Passthrough,
    "vllm": Vllm,
    "vllm-legacy": VllmLegacy,
    "comfyui": Comfyui,
    "sdxl": Sdxl,
    "a1111": A1111,
    "public": Public,
    "image-edit": ImageEdit,
    "mochi": Mochi,
    "generate-video": GenerateVideo,
}
