"""Is this machine, this text, this model sound? Each answer is a finding with a figure, and with what to do where it is not."""

from gpt_kit.doctor.checks import Check, Finding, examine
from gpt_kit.doctor.corpus import corpus_checks
from gpt_kit.doctor.machine import machine_checks
from gpt_kit.doctor.model import FAMILIES, file_checks, model_checks, random_model

__all__ = ["FAMILIES", "Check", "Finding", "corpus_checks", "examine", "file_checks", "machine_checks", "model_checks", "random_model"]
