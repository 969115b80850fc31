"""How good is it: loss, perplexity, bits per byte, predictions side by side; and the text helpers that notebooks use."""

from gpt_kit.evaluation.loss import LossReport, evaluate_loss, evaluation_mode
from gpt_kit.evaluation.objective import (
    LANGUAGE_MODELLING,
    LanguageModelling,
    Objective,
    ObjectiveSums,
    batch_loss_sum,
    objective_sums,
)
from gpt_kit.evaluation.predictions import Prediction, predict_batch, predictions_as_markdown
from gpt_kit.generation import generate_text_autoregressive, text_to_token_ids, token_ids_to_text

__all__ = [
    "LANGUAGE_MODELLING",
    "LanguageModelling",
    "LossReport",
    "Objective",
    "ObjectiveSums",
    "Prediction",
    "batch_loss_sum",
    "evaluate_loss",
    "evaluation_mode",
    "generate_text_autoregressive",
    "objective_sums",
    "predict_batch",
    "predictions_as_markdown",
    "text_to_token_ids",
    "token_ids_to_text",
]
