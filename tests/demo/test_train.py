"""A few steps with a tiny model lower the loss and leave a folder that loads."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from penstock_demo.corpus import held_out_documents, training_documents
from penstock_demo.phases import NUM_STEPS as NUM_SHIPPED_STEPS
from penstock_demo.phases import PHASES, shortened, timed
from penstock_demo.schedule import Schedule, steps_that_fit
from penstock_demo.tokenizer import SPECIAL_TOKENS, learn_tokenizer
from penstock_demo.train import Recipe, TrainingLog, train

NUM_STEPS = 20


def test_training_lowers_the_loss_and_writes_a_checkpoint(tmp_path: Path) -> None:
    documents = [document.text for document in training_documents(1, 300)]
    tokenizer = learn_tokenizer(documents, 400)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, bos_token_id=0,
    )  # fmt: skip
    schedule = Schedule(peak_rate=1e-2, warm_up_steps=4)
    recipe = Recipe(NUM_STEPS, row_length=64, rows_per_step=4, schedule=schedule, steps_per_check=5)
    encoded = tokenizer(documents, add_special_tokens=False)["input_ids"]
    held_out = tokenizer([document.text for document in held_out_documents(1, 20)], add_special_tokens=False)
    torch.manual_seed(0)
    log = TrainingLog()
    model = LlamaForCausalLM(config)
    train(model, tokenizer, encoded, held_out["input_ids"], recipe, tmp_path, lambda loss: loss, log)

    assert log.num_steps == NUM_STEPS
    assert log.held_out_loss[-1][1] < log.held_out_loss[0][1] - 0.3
    saved = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert saved.dtype == torch.bfloat16
    assert saved.generation_config.eos_token_id == [0, 2]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3]
    assert not (tmp_path / ".partial").exists()


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = learn_tokenizer([document.text for document in training_documents(1, 100)], 300)
    for text in ("Grüße, 世界! 🙂", "  two  spaces\n\n\ttab", "12345 + 6"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    schedule = Schedule(peak_rate=1.0, final_rate=0.1, warm_up_steps=10)
    rates = [schedule.rate(step, 100) for step in range(1, 101)]
    assert rates[:10] == [step / 10 for step in range(1, 11)]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert abs(rates[-1] - 0.1) < 1e-9
    assert schedule.rate(500, None) == 1.0


def test_steps_that_fit() -> None:
    assert steps_that_fit(100.0, 35.0) == 97
    assert steps_that_fit(0.0, 35.0) == 1


def test_phases_keep_their_proportions() -> None:
    steps = [phase.recipe.num_steps for phase in shortened(PHASES, NUM_SHIPPED_STEPS // 10)]
    assert steps == [round((phase.recipe.num_steps or 0) / 10) for phase in PHASES]
    assert abs(sum(phase.recipe.minutes for phase in timed(PHASES, 30.0)) - 30.0) < 1e-9
