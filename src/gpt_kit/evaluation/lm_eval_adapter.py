"""The kit as a model of lm-evaluation-harness (package lm_eval, extra lm-eval).

    import lm_eval, gpt_kit.evaluation.lm_eval_adapter
    lm_eval.simple_evaluate(model="gpt-kit", model_args="pretrained=runs/a", tasks=["lambada_openai"])

Log-likelihoods come from the Scorer, text from the generator with its cache. Two things are not as in the harness's `hf` model: text that
spells a special token stays text, and where a vocabulary has no token that begins a text, a text's first token is not scored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gpt_kit.errors import InputError, MissingExtraError
from gpt_kit.evaluation.multiple_choice import encode_pairs
from gpt_kit.evaluation.perplexity import first_token_id, text_windows
from gpt_kit.evaluation.scorer import BATCH_TOKENS, Scorer
from gpt_kit.generation import Sampling, generate_ids
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_device, choose_precision
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import simple_parse_args_string
except ImportError:
    raise MissingExtraError("lm_eval", "lm-eval", "a task of lm-evaluation-harness") from None

MAX_NEW_TOKENS = 256  # where a task says nothing; as the harness's own models


@register_model("gpt-kit")
class HarnessModel(LM):  # type: ignore[misc]
    """A Scorer, as the harness wants a model to be."""

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.scorer, self.tokenizer = scorer, tokenizer
        self._device = scorer.model.device

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> HarnessModel:
        """The model that `pretrained` names, with `device`, `precision` and `batch_tokens` as for gpt-kit eval. A batch_size is ignored."""
        known = {key: value for key, value in {**(additional_config or {}), **arg_dict}.items() if value is not None}
        device = choose_device(known.pop("device", "auto"))
        precision = choose_precision(known.pop("precision", "float32"), device)
        batch_tokens, name = int(known.pop("batch_tokens", BATCH_TOKENS)), known.pop("pretrained", "")
        unknown = known.keys() - {"batch_size", "max_batch_size"}
        if unknown or not name:
            raise InputError(
                f"model_args are pretrained, device, precision and batch_tokens; got {', '.join(sorted(arg_dict)) or 'none'}. "
                "For example: pretrained=runs/a,precision=bf16"
            )
        scorer = Scorer(model=GPTModel.from_pretrained(name).to(device), precision=precision, batch_tokens=batch_tokens)
        return cls(scorer, load_tokenizer(name))

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> HarnessModel:
        """The same from "key=value,key=value"."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(context, continuation) each -> the sum of log p over the continuation, and whether it is what greedy decoding writes."""
        scores = self.scorer.score(list(encode_pairs(self.tokenizer, (request.args for request in requests))))
        answers = [(score.log_likelihood, score.is_greedy) for score in scores]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """(text,) each -> the sum of log p over all its tokens, in windows of the context."""
        windows = [list(text_windows(request.args[0], self.tokenizer, self.scorer.context, self.scorer.context)) for request in requests]
        scores = iter(self.scorer.score([window.request for found in windows for window in found]))
        sums = [sum(next(scores).log_likelihood for _ in found) for found in windows]
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """(prompt, settings) each -> the text that follows, up to the first stop string or the end token."""
        texts: dict[int, str] = {}
        for numbers, prompts, settings in self._generation_batches(requests):
            for number, text in zip(numbers, self._write(prompts, settings), strict=True):
                texts[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return [texts[number] for number in range(len(requests))]

    def _generation_batches(self, requests: Sequence[Any]) -> Iterator[tuple[list[int], list[list[int]], dict[str, Any]]]:
        """Requests of the same settings and of like length: their numbers, prompts and settings."""
        groups: dict[str, list[tuple[int, list[int]]]] = {}
        for number, request in enumerate(requests):
            settings = normalize_gen_kwargs(request.args[1], MAX_NEW_TOKENS)
            room = self.scorer.context - settings["max_gen_toks"]
            if room < 1:
                raise InputError(
                    f"a task asks for {settings['max_gen_toks']} new tokens, but this model's context holds {self.scorer.context} with the "
                    "prompt. Set max_gen_toks in the task's generation_kwargs"
                )
            first = first_token_id(self.tokenizer)
            prompt = self.tokenizer.encode(request.args[0])[-room:] or ([] if first is None else [first])
            groups.setdefault(json.dumps(settings, sort_keys=True), []).append((number, prompt))
        for described, group in groups.items():
            settings = json.loads(described)
            group.sort(key=lambda pair: -len(pair[1]))
            while group:
                rows = max(1, self.scorer.batch_tokens // (len(group[0][1]) + settings["max_gen_toks"]))
                batch, group = group[:rows], group[rows:]
                yield [number for number, _ in batch], [prompt for _, prompt in batch], settings

    def _write(self, prompts: list[list[int]], settings: dict[str, Any]) -> list[str]:
        stops = [settings["until"]] if isinstance(settings["until"], str) else settings["until"]
        temperature = settings["temperature"] if settings.get("do_sample") else 0
        sampling = Sampling(temperature=temperature, top_k=settings.get("top_k", 0), top_p=settings.get("top_p", 1.0))
        specials = set(self.tokenizer.special_tokens.values())
        written: list[list[int]] = [[] for _ in prompts]
        texts, open_rows = [""] * len(prompts), set(range(len(prompts)))
        steps = generate_ids(
            self.scorer.model, prompts, settings["max_gen_toks"], sampling=sampling, stop_id=self.tokenizer.end_of_text_id, seed=0
        )
        for step in steps:
            for row in list(open_rows):
                token = step[row]
                if token is not None and token not in specials:
                    written[row].append(token)
                    texts[row] = self.tokenizer.decode(written[row])
                if token is None or any(stop in texts[row] for stop in stops if stop):
                    open_rows.remove(row)
            if not open_rows:
                break
        return [_before(text, stops) for text in texts]


def _before(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stop strings."""
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    return text
