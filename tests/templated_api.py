"""An app whose model has a chat template of the test's choice, and the prompt that the template made."""

from pathlib import Path

from server_api import MODEL, Api, MakeApi
from small_tokenizers import byte_level, write_text_folder

from penstock_server.model import ServedModel


def with_template(make_api: MakeApi, folder: Path, template: str) -> Api:
    """An app over a fake engine; the model's files are written into `folder`."""
    write_text_folder(folder, byte_level(), chat_template=template, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    return make_api(ServedModel.load(folder, [MODEL]), max_model_len=2048)


def prompt_of(api: Api) -> str:
    """What the engine was asked last, special tokens by name."""
    return "".join(map(api.context.model.codec.tokenizer.label, api.engine.requests[-1].prompt))
