"""The fields of an API request that stand beside `decoding`: what each means."""

# Flat field -> (processor, its parameter, the values that mean "not asked for").
FLAT_FIELDS: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "guided_json": ("grammar", "json_schema", ()),
    "guided_regex": ("grammar", "regex", ()),
    "guided_choice": ("grammar", "choice", ()),
    "guided_grammar": ("grammar", "lark", ()),
    "allowed_sequences": ("allowed_sequences", "sequences", ()),
    "allowed_texts": ("allowed_sequences", "texts", ()),
    "bad_words": ("bad_words", "texts", ((),)),
    "bad_words_ids": ("bad_words", "words", ((),)),
    "allowed_token_ids": ("allowed_tokens", "tokens", ()),
    "no_repeat_ngram_size": ("no_repeat_ngram", "size", (0,)),
    "min_tokens": ("min_tokens", "count", (0,)),
    "logit_bias": ("logit_bias", "bias", ({},)),
    "repetition_penalty": ("penalties", "repetition", (1.0,)),
    "presence_penalty": ("penalties", "presence", (0.0,)),
    "frequency_penalty": ("penalties", "frequency", (0.0,)),
    "dry_multiplier": ("dry", "multiplier", (0.0,)),
    "dry_base": ("dry", "base", (1.75,)),
    "dry_allowed_length": ("dry", "allowed_length", (2,)),
    "dry_penalty_last_n": ("dry", "range", (-1,)),
    "dry_sequence_breakers": ("dry", "breaker_texts", ()),
    "temperature": ("temperature", "value", (1.0,)),
    "dynatemp_range": ("dynamic_temperature", "spread", (0.0,)),
    "dynatemp_exponent": ("dynamic_temperature", "exponent", (1.0,)),
    "top_n_sigma": ("top_n_sigma", "deviations", (-1.0, 0.0)),
    "top_h": ("top_h", "share", (1.0,)),
    "top_k": ("top_k", "count", (0, -1)),
    "top_p": ("top_p", "mass", (1.0,)),
    "min_p": ("min_p", "share", (0.0,)),
    "typical_p": ("typical", "mass", (1.0,)),
    "epsilon_cutoff": ("epsilon", "cutoff", (0.0,)),
    "eta_cutoff": ("eta", "cutoff", (0.0,)),
    "mirostat": ("mirostat", "version", (0,)),
    "mirostat_tau": ("mirostat", "target", (5.0,)),
    "mirostat_eta": ("mirostat", "rate", (0.1,)),
    "xtc_probability": ("xtc", "probability", (0.0,)),
    "xtc_threshold": ("xtc", "threshold", (0.1,)),
}
# Flat field -> the one that it belongs to. Clients send both, so beside that one's idle value it is checked and asks
# for nothing; without that one it would be dropped unseen, and is refused.
SWITCHES = {
    "dynatemp_exponent": "dynatemp_range",
    "mirostat_tau": "mirostat",
    "mirostat_eta": "mirostat",
    "dry_base": "dry_multiplier",
    "dry_allowed_length": "dry_multiplier",
    "dry_penalty_last_n": "dry_multiplier",
    "dry_sequence_breakers": "dry_multiplier",
    "xtc_threshold": "xtc_probability",
}
# Flat field -> (another one, and the processor and parameter that it fills instead when that one is asked for).
DIVERTED = {"temperature": ("dynatemp_range", "dynamic_temperature", "value")}
OTHER_FIELDS = ("n", "seed", "num_logprobs", "num_processed_logprobs", "chain_trace", "decoding")
