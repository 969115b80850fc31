"""Every command of the README runs as it stands there, in its order, on a small text and with a small model."""

import io
import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from gpt_kit import create_model_config
from gpt_kit.cli import main
from gpt_kit.cli.arguments import parse
from gpt_kit.cli.serve import ServeArguments
from gpt_kit.cli.studio import StudioArguments
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

ROOT = Path(__file__).parent.parent
SERVERS = {"serve": ServeArguments, "studio": StudioArguments}
SMALL = "--model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.max-position-embeddings 16 --evaluation.sample-tokens 4".split()
TEXT = "Once upon a time there was a cat. It sat on a mat, and the mat was flat. " * 40


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def readme_commands() -> list[list[str]]:
    lines = "\n".join(readme_blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("gpt-kit ")]


def test_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("book.txt", "the-verdict.txt"):
        Path(name).write_text(TEXT, encoding="utf-8")
    answers = json.dumps([{"instruction": "say", "output": "yes"}] * 4)
    Path("instruction-data.json").write_text(answers, encoding="utf-8")
    for name in ("train.tsv", "dev.tsv"):
        Path(name).write_text("sentence\tlabel\na fine film\t1\na dull one\t0\nfine\t1\ndull\t0\n", encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    hub = tmp_path / "hub"
    GPTModel(create_model_config("gpt2", n_layer=1, n_embd=16, n_head=2, max_position_embeddings=8)).save_pretrained(hub)
    load_tokenizer("gpt2").save(hub)
    monkeypatch.setattr("gpt_kit.locate._download", lambda _name: hub)  # the only step that needs the network
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))  # for the chat
    monkeypatch.setattr("gpt_kit.training.probing.TIMED_SECONDS", 0.0)  # what is planned here is not compared with anything
    commands = readme_commands()
    assert len(commands) >= 7
    for _, verb, *words in commands:
        if verb in SERVERS:  # run without end; tests of their own start them
            assert parse(SERVERS[verb], verb, words)
            continue
        small = [*SMALL, "--training.batch-size", "2"] if verb in ("train", "plan") and "--resume" not in words else []
        if "--config" in words:
            small += ["--training.max-steps", "2", "--data.stride", "8"]
        if "--training.max-steps" in words:
            words[words.index("--training.max-steps") + 1] = "3"
        assert main([verb, *words, *small]) == 0, capsys.readouterr().err


def test_python_of_the_readme_runs(capsys, tmp_path):
    (block,) = readme_blocks("python")
    block = block.replace("n_layer=2", "n_layer=1, n_embd=16, n_head=2").replace("max_new_tokens=20", "max_new_tokens=3")
    (tmp_path / "readme.py").write_text(block, encoding="utf-8")
    runpy.run_path(str(tmp_path / "readme.py"))
    assert capsys.readouterr().out.startswith("The future of AI is")


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench"])
def test_make_has_the_targets_that_the_readme_names(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_examples_run_and_stay_short(capsys, monkeypatch, tmp_path):
    """Each example runs as a person would run it and stays under 60 lines."""
    import runpy

    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    for example in sorted((ROOT / "examples").glob("*.py")):
        assert len(example.read_text(encoding="utf-8").splitlines()) < 60, example
        monkeypatch.setattr("sys.argv", [str(example), str(text), "1"])
        runpy.run_path(str(example), run_name="__main__")
    output = capsys.readouterr().out
    assert "validation loss" in output
    assert float(re.search(r"loss (\S+) after", output)[1]) < 0.01
