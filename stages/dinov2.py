"""Published DINOv2 weights, with or without registers, as transformers lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.errors import InputError


def load_dinov2(folder: Path) -> tuple[Any, int]:
    """The model of transformers, which knows the names that older versions gave to parameters, and its registers.

    Raises InputError for other networks and for weights that are pickled, broken or not all there.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kinds = {"dinov2": 0, "dinov2_with_registers": getattr(config, "num_register_tokens", 0)}
        if config.model_type not in kinds:
            raise InputError(f"{folder} is {config.model_type}; an encoder is a DINOv2 of transformers")
        model, told = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError, LookupError, SafetensorError) as error:
        raise InputError(f"{folder} holds no DINOv2 of transformers: {' '.join(str(error).split())[:200]}") from error
    if lacking := sorted(told["missing_keys"]):
        raise InputError(f"{folder} lacks {lacking[0]} and {len(lacking) - 1} further weights; fetch it again")
    return model, kinds[config.model_type]
