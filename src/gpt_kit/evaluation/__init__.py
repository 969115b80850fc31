"""How good is it: loss, perplexity, bits per byte, tasks, predictions side by side; and the text helpers that notebooks use."""

from gpt_kit.evaluation.loss import LossReport, evaluate_loss, evaluation_mode
from gpt_kit.evaluation.objective import (
    LANGUAGE_MODELLING,
    LanguageModelling,
    Objective,
    ObjectiveSums,
    batch_loss_sum,
    objective_sums,
)
from gpt_kit.evaluation.perplexity import evaluate_perplexity
from gpt_kit.evaluation.predictions import Prediction, predict_batch, predictions_as_markdown
from gpt_kit.evaluation.scorer import Score, Scorer
from gpt_kit.evaluation.statistics import Figure
from gpt_kit.evaluation.token_trees import Request
from gpt_kit.generation import generate_text_autoregressive, text_to_token_ids, token_ids_to_text

__all__ = [
    "LANGUAGE_MODELLING",
    "Figure",
    "LanguageModelling",
    "LossReport",
    "Objective",
    "ObjectiveSums",
    "Prediction",
    "Request",
    "Score",
    "Scorer",
    "batch_loss_sum",
    "evaluate_loss",
    "evaluate_perplexity",
    "evaluation_mode",
    "generate_text_autoregressive",
    "objective_sums",
    "predict_batch",
    "predictions_as_markdown",
    "text_to_token_ids",
    "token_ids_to_text",
]
