"""Tokenizers of the kinds that decoder-only models use, small enough to make in a test."""

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The penstock opens and the water runs down to the wheel.",
    "Hello world, hello water; the wheel turns, and turns again.",
    "naïve café, grüße, 你好世界, привет мир, 🙂🙃 and 👩‍👩‍👧.",
    "  indented\n\tlines\n\nand   spaces  ",
]

CHAT_TEMPLATE = """{% for message in messages %}
{% if message.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('unknown role') }}{% endif %}
<|im_start|>{{ message['role'] }}
{{ message['content'] | trim }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""


def byte_level(vocab_size: int = 400) -> tokenizers.Tokenizer:
    """Like GPT-2's and Qwen's: any bytes, special tokens after the vocabulary's own."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 3, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<|wörd|>"])
    return tokenizer


def byte_fallback() -> tokenizers.Tokenizer:
    """Like Llama 2's and Mistral's: SentencePiece pieces, and bytes for what has none."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *"abcdefghijklmnopqrstuvwxyzTH,.;ï", "▁t", "he", "▁the", "▁w", "▁▁"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "w"), ("▁", "▁")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    bpe = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """A SentencePiece unigram-style vocabulary decoded by Metaspace, as XGLM's."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_level() -> tokenizers.Tokenizer:
    """Whole words and no decoder: tokens are joined by spaces."""
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *sorted(set(" ".join(CORPUS).split()))])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


KINDS = {"byte_level": byte_level, "byte_fallback": byte_fallback, "metaspace": metaspace, "word_level": word_level}


def write_text_folder(folder: Path, tokenizer: tokenizers.Tokenizer, **config: object) -> Path:
    """A checkpoint folder's text side; `config` goes into tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    return folder
