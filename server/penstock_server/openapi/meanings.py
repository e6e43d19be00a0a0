"""What each field of a request means, in one line. docs/api.md says the same; a test holds the two together."""

MEANINGS: dict[str, str] = {
    "model": "name of the model, as `/v1/models` gives it",
    "max_tokens": "most tokens of an answer; 0 is allowed",
    "stop": "string, or up to 16 of them, that end the answer and are no part of it",
    "stop_token_ids": "token ids that end the answer",
    "ignore_eos": "go on after the model's own end",
    "stream": "send the answer in events while it is made",
    "stream_options": '`{"include_usage": true}` adds the token counts in a last event, with '
    '`"continuous_usage_stats": true` those so far in each chunk; `{"decoding_events": true}` tells how the answers '
    "are found",
    "priority": "requests with lower numbers run first",
    "cache_salt": "requests share cached prompt starts only with those of the same salt",
    "temperature": "scores are divided by it; 0: always the likeliest token",
    "dynatemp_range": "how far the temperature may move with the entropy of each distribution",
    "dynatemp_exponent": "above 1 the temperature rises late with the entropy, below 1 early",
    "top_p": "leave the likeliest tokens that together have this probability",
    "top_k": "leave so many of the likeliest tokens; 0 or -1: all",
    "min_p": "leave the tokens with at least this share of the likeliest one's probability",
    "top_n_sigma": "leave the tokens whose score is within so many standard deviations of the highest; -1 or 0: all",
    "top_h": "leave the likeliest tokens, as many as this share of the entropy allows",
    "typical_p": "leave the tokens of the most typical information that together have this probability",
    "epsilon_cutoff": "leave the tokens of at least this probability",
    "eta_cutoff": "likewise, with a threshold that falls where the distribution is flat",
    "xtc_probability": "how often the likeliest tokens are left out",
    "xtc_threshold": "all tokens of at least this probability but the least likely of them are then left out",
    "mirostat": "version of Mirostat, which steers the surprise of each token; 0: off",
    "mirostat_tau": "the surprise in bits that Mirostat steers to",
    "mirostat_eta": "how fast Mirostat corrects itself",
    "repetition_penalty": "above 1: tokens of prompt and answer are less likely to come again",
    "presence_penalty": "subtracted from the scores of tokens that the answer has",
    "frequency_penalty": "likewise, once for each time that the answer has them",
    "dry_multiplier": "how strongly tokens are penalised that would go on with a repeated passage; 0: off",
    "dry_base": "the penalty grows to the power of the passage's length with this base",
    "dry_allowed_length": "passages of up to so many tokens may repeat",
    "dry_penalty_last_n": "how many of the last tokens are looked at; -1: all",
    "dry_sequence_breakers": "texts that end a passage",
    "no_repeat_ngram_size": "no n-gram twice",
    "logit_bias": "token id to what is added to its score",
    "min_tokens": "fewest tokens of an answer before it may end",
    "bad_words": "texts that an answer must not hold",
    "bad_words_ids": "sequences of token ids that an answer must not hold",
    "allowed_token_ids": "the only tokens that an answer may hold",
    "allowed_texts": "the only answers, as texts",
    "allowed_sequences": "the only answers, as token ids",
    "response_format": "what the answer looks like: any text, a JSON object, or JSON that follows a schema",
    "structured_outputs": "what the answer looks like, in the words of vLLM: one of `json`, `regex`, `choice`, "
    "`grammar` and `json_object`",
    "guided_json": "a JSON schema that the answer follows",
    "guided_regex": "a regex that the whole answer matches",
    "guided_choice": "texts, one of which is the answer",
    "guided_grammar": "a grammar, in Lark's notation or GBNF, that the answer follows",
    "guided_whitespace_pattern": "a regex for the white space in JSON, beside a schema",
    "json_schema": "a JSON schema that the answer follows",
    "grammar": "a grammar, in GBNF or in Lark's notation, that the answer follows",
    "num_beams": "above 1: beam search with so many live hypotheses",
    "num_beam_groups": "how many groups the beams are divided into",
    "diversity_penalty": "how much the groups avoid each other's tokens",
    "length_penalty": "a beam's score is divided by its length to this power",
    "early_stopping": "when a beam search ends: see the strategy `beam`",
    "use_beam_search": "true: beam search, with `best_of` or else `n` live hypotheses",
    "best_of": "so many answers are made, and the `n` likeliest are returned",
    "processed_logprobs": "log-probabilities after the chain, of each token and of so many likeliest ones, 0 to 20; "
    "see the reply",
    "prompt_logprobs": "log-probabilities of each token of the prompt and of so many likeliest ones at its place, "
    "0 to 20; see the reply",
    "chain_trace": "true to be told what each step of the chain did at each token; see the reply",
    "truncate_prompt_tokens": "keep so many tokens of the prompt; -1: as many as the context has room for",
    "truncation_side": "`left`: the prompt's first tokens go, `right`: its last",
    "include_stop_str_in_output": "true: the stop string, or the stop token, that ends an answer is part of its text",
    "skip_special_tokens": "false: special tokens are written out in the text",
    "return_token_ids": "true: a choice has `token_ids`, and `prompt_token_ids` (in chat these stand beside the "
    "choices); in a stream the prompt's stand in the choice's first chunk",
    "return_tokens_as_token_ids": "true: log-probabilities name tokens by their ids, like `token_id:42`",
    "n": "answers per prompt, up to `--max-n` and to `--max-rows`",
    "seed": "64-bit integer from which every draw is made",
    "decoding": "strategy and chain of processors: see decoding, and what there is",
}
"""Fields of completions and of chat."""

COMPLETION_MEANINGS: dict[str, str] = {
    "prompt": "a string, a list of strings, a list of token ids, or a list of such lists; no more of them "
    "than may wait (`--max-queue`)",
    "logprobs": "log-probabilities of each token and of so many likeliest ones, 0 to 20",
    "suffix": "what comes behind the answer, for models that can fill in text; empty for nothing",
    "echo": "put the prompt before each answer; with `logprobs`, its tokens before the answer's, too",
    "add_special_tokens": "whether the tokenizer puts its own tokens around a prompt in text",
}

CHAT_MEANINGS: dict[str, str] = {
    "messages": "the conversation: `role`, `content` (a string or text parts), `name`, `tool_calls`, `tool_call_id`, "
    "`reasoning_content`; a `type` (`text` or `message`) says nothing",
    "max_completion_tokens": "the newer name of `max_tokens`",
    "logprobs": "true for the log-probability of each token",
    "top_logprobs": "so many likeliest ones beside it, 0 to 20",
    "add_generation_prompt": "end the prompt where the assistant's turn begins",
    "continue_final_message": "true: the answer goes on with the last message, which is the assistant's",
    "add_special_tokens": "whether the tokenizer puts its own tokens around what the template wrote",
    "chat_template_kwargs": "variables for the chat template",
    "tools": "functions that the model may call",
    "tool_choice": '`auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`',
    "parallel_tool_calls": "false: at most one call in an answer",
    "include_reasoning": "false: thoughts are left out of the reply",
    "reasoning_effort": "how hard to think, for models whose template takes it",
}

EMBEDDINGS_MEANINGS: dict[str, str] = {
    "input": "a string, a list of strings, a list of token ids, or a list of such lists; none of them empty",
    "encoding_format": "`float`: numbers; `base64`: that of little-endian float32",
    "dimensions": "so many of the first numbers; they are normalised after that",
    "pooling": "the `mean` of the hidden states of all tokens, or that of the `last` one, for models trained so",
    "normalize": "whether vectors have the length 1; by default they have",
    "use_activation": "vLLM's name of `normalize`",
}

TEXT_MEANINGS: dict[str, str] = {
    "model": "name of the model; may be left out",
    "prompt": "a text",
    "messages": "a conversation, as chat takes it",
    "add_special_tokens": "whether the tokenizer puts its own tokens around the text: by default around a `prompt`, "
    "not around `messages`",
    "add_generation_prompt": "end the prompt where the assistant's turn begins",
    "continue_final_message": "true: the prompt ends within the last message, which is the assistant's",
    "chat_template_kwargs": "variables for the chat template",
    "tools": "functions that the template shows to the model",
    "return_token_strs": "true: each token as text, too",
    "tokens": "token ids",
    "skip_special_tokens": "true: leave out the tokens that are no text",
}

SCORE_MEANINGS: dict[str, str] = {
    "input": "what is scored: a string, a list of strings, a list of token ids, or a list of such lists; with "
    "`labels`, what they follow",
    "context": "what the input follows, which is not counted: one for all, or a list with one for each; an empty "
    "string is the beginning of a document",
    "labels": "two or more texts that may follow the input, which are scored in its place",
    "logprobs": "tell of each token that counts, and of so many likeliest ones at its place, 0 to 20",
    "add_special_tokens": "whether the tokenizer puts its own tokens around texts",
}
