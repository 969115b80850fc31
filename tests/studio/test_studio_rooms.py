"""Every room by Streamlit's AppTest, on tiny models: what is on the page, and that nothing on it was read as markup."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from gpt_kit.generation import generate_ids
from gpt_kit.studio.folder import RunsFolder
from gpt_kit.studio.parts import strip
from gpt_kit.tokenizers import load_tokenizer

pytest.importorskip("streamlit", reason="the extra 'studio' is not installed")
from streamlit.testing.v1 import AppTest

BYTES = load_tokenizer("byte")


def room(name: str, root: object) -> AppTest:
    def script(name: str, root: str) -> None:
        from importlib import import_module

        from gpt_kit.studio.folder import RunsFolder
        from gpt_kit.studio.parts.models import Studio
        from gpt_kit.studio.parts.words import keep

        keep()
        import_module(f"gpt_kit.studio.rooms.{name}").show(Studio(RunsFolder(root), "cpu"))

    return AppTest.from_function(script, args=(name, str(root)), default_timeout=60)


def drawn(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception[0].message
    return app


def elements(app: AppTest) -> list[dict[str, Any]]:
    """The data of the page's own elements."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def texts(app: AppTest) -> list[str]:
    return [element.value for element in (*app.text, *app.code)]


def read_as_markdown(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.warning, app.title, app.subheader)
    labels = [widget.label for widget in (*app.button, *app.slider, *app.selectbox)]
    return "\n".join([str(element.value) for kind in kinds for element in kind] + labels)


def test_the_app_opens_on_the_runs(runs_folder):
    def script(root: str) -> None:
        from gpt_kit.studio.app import draw

        draw(root, "cpu")

    app = AppTest.from_function(script, args=(str(runs_folder),), default_timeout=60).run()
    assert not app.exception
    assert app.title[0].value == "Runs"


def test_runs_are_compared_and_their_samples_shown_as_text(runs_folder):
    app = drawn(room("runs", runs_folder))
    table = app.dataframe[0].value.set_index("run")
    assert table.loc["story", ["kind", "state", "done"]].tolist() == ["pre-training", "finished", 1.0]
    assert table.loc["talk", "state"].startswith("running") and table.loc["talk", "done"] == 0.4
    app.selectbox[0].set_value("story")
    app.run()
    app.select_slider[0].set_value(4)
    drawn(app)
    assert any("<script>" in text for text in texts(app))
    assert "<script>" not in read_as_markdown(app) and not any(element.proto.allow_html for element in app.markdown)
    for figure in ("Learning rate", "Gradient norm", "Speed"):
        app.button_group[0].set_value(figure)
        drawn(app)
        assert len(app.get("vega_lite_chart")) == (figure != "Learning rate")  # which these runs did not record


def test_a_run_that_goes_on_is_followed(runs_folder, tmp_path):
    import shutil

    copy = shutil.copytree(runs_folder, tmp_path / "runs")
    app = drawn(room("runs", copy))
    with open(copy / "talk" / "metrics.jsonl", "a") as file:
        file.write('{"step": 15, "tokens_seen": 750, "train/loss": 3.0}\n')
    drawn(app)
    assert app.dataframe[0].value.set_index("run").loc["talk", ["step", "done"]].tolist() == [15, 0.75]


def test_an_empty_folder_says_what_to_do(tmp_path):
    for name in ("runs", "complete", "inside", "chat", "compare"):
        assert "gpt-kit quickstart" in drawn(room(name, tmp_path)).info[0].value
    assert drawn(room("tokens", tmp_path)).selectbox[0].options == ["gpt2", "byte"]


def test_chat_answers_and_remembers(runs_folder):
    app = drawn(room("chat", runs_folder))
    assert app.selectbox[0].options == ["talk", "talk · step 4"]
    app.chat_input[0].set_value("**Hello** <b>you</b>").run()
    drawn(app)
    assert [message.name for message in app.chat_message] == ["user", "assistant"]
    assert app.chat_message[0].text[0].value == "**Hello** <b>you</b>"
    assert "<b>" not in read_as_markdown(app)
    app.chat_input[0].set_value("x" * 60).run()
    assert any("Shorten the message" in text for text in texts(app))
    next(button for button in app.button if button.label == "Begin anew").click().run()
    assert not app.chat_message


def test_chat_offers_questions_that_markdown_reads_nothing_into(runs_folder):
    app = drawn(room("chat", runs_folder))
    assert app.button_group[0].options == ["What does it do?"]


def test_chat_without_a_model_that_can(runs_folder):
    assert "finetune sft" in drawn(room("chat", runs_folder / "story")).info[0].value


@pytest.fixture
def complete(runs_folder):
    app = drawn(room("complete", runs_folder))
    app.selectbox[0].set_value("story")
    app.text_area[0].set_value("<b>ab")
    next(slider for slider in app.slider if slider.label == "Length").set_value(12)
    next(slider for slider in app.slider if slider.label == "Temperature").set_value(0.0)
    press(app, "Write")
    return app


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click()
    drawn(app)


def greedy(root: object, name: str, ids: list[int], count: int) -> list[int]:
    from gpt_kit.model import GPTModel

    model = GPTModel.from_pretrained(RunsFolder(root).models()[name])
    return [step[0] for step in generate_ids(model, [ids], count, stop_id=BYTES.end_of_text_id) if step[0] is not None]


def test_a_text_is_continued_and_coloured(complete, runs_folder):
    (strip_data,) = elements(complete)
    ids = [token["id"] for token in strip_data["tokens"]]
    prompt = BYTES.encode("<b>ab")
    assert ids == prompt + greedy(runs_folder, "story", prompt, 12)
    assert [token["kind"] for token in strip_data["tokens"]] == ["prompt"] * 5 + ["written"] * 12
    for token in strip_data["tokens"][5:]:  # greedy: each is its own first rival
        assert token["rivals"][0]["id"] == token["id"] and token["rivals"][0]["p"] == token["p"]
    assert "<b>" not in read_as_markdown(complete)


def test_a_rival_is_taken_and_the_text_goes_on_from_it(complete, runs_folder, monkeypatch):
    before = elements(complete)[0]["tokens"]
    rival = before[8]["rivals"][1]["id"]
    mounted, clicks = strip._mounted, [strip.Taken(8, rival)]
    monkeypatch.setattr(strip, "_mounted", lambda *args, **options: mounted(*args, **options) or (clicks.pop() if clicks else None))
    drawn(complete)
    after = elements(complete)[0]["tokens"]
    head = [token["id"] for token in before[:8]] + [rival]
    assert [token["id"] for token in after] == head + greedy(runs_folder, "story", head, 12)
    assert after[8]["kind"] == "taken"
    press(complete, "Back")
    assert elements(complete)[0]["tokens"] == before


def test_going_on_stops_at_the_context(complete):
    press(complete, "Go on")
    press(complete, "Go on")
    press(complete, "Go on")
    press(complete, "Go on")
    assert len(elements(complete)[0]["tokens"]) == 48
    complete.text_area[0].set_value("a" * 60)
    press(complete, "Write")
    assert any("60 tokens" in text for text in texts(complete))


def test_inside_shows_attention_lens_and_norms(runs_folder):
    import base64

    app = drawn(room("inside", runs_folder))
    app.text_area[0].set_value("<i>in</i>")
    drawn(app)
    (heads,) = elements(app)
    weights = torch.frombuffer(bytearray(base64.b64decode(heads["weights"])), dtype=torch.uint8).view(2, 3, 9, 9)
    assert "".join(heads["tokens"]) == "<i>in</i>" and heads["layers"] == 2 and heads["heads"] == 3
    assert weights[:, :, 0, 0].eq(255).all() and weights.triu(1).eq(0).all()
    app.button_group[0].set_value("Logit lens")
    drawn(app)
    (lens,) = elements(app)
    assert [row["name"] for row in lens["rows"]] == ["embedding", "layer 1", "layer 2: the answer"]
    assert all(len(row["cells"]) == 9 for row in lens["rows"])
    app.button_group[0].set_value("Norms")
    drawn(app)
    assert len(app.get("vega_lite_chart")) == 2
    assert "<i>" not in read_as_markdown(app)


def test_two_checkpoints_write_side_by_side(runs_folder):
    app = drawn(room("compare", runs_folder))
    left, right = app.selectbox
    assert (left.value, right.value) == ("lone", "story")
    next(slider for slider in app.slider if slider.label == "Temperature").set_value(0.0)
    next(slider for slider in app.slider if slider.label == "Length").set_value(6)
    app.text_area[0].set_value("<b>ab")
    press(app, "Write both")
    prompt = BYTES.encode("<b>ab")
    for name, data in zip(("lone", "story"), elements(app), strict=True):
        assert [token["id"] for token in data["tokens"]] == prompt + greedy(runs_folder, name, prompt, 6)


def test_tokens_are_cut_by_any_tokenizer(runs_folder):
    app = drawn(room("tokens", runs_folder))
    app.text_area[0].set_value("é <script>")
    app.selectbox[0].set_value("byte")
    drawn(app)
    (data,) = elements(app)
    assert [(token["id"], token["text"]) for token in data["tokens"][:2]] == [(0xC3, ""), (0xA9, "é")]
    table = app.dataframe[0].value.set_index("tokenizer")
    assert table.loc["gpt2", "tokens"] == len(load_tokenizer("gpt2").encode("é <script>"))
    assert "<script>" not in read_as_markdown(app)


def test_a_damaged_model_is_said_in_words(runs_folder, tmp_path):
    import shutil

    copy = shutil.copytree(runs_folder / "lone", tmp_path / "runs" / "**lone**")
    (copy / "model.safetensors").write_bytes(b"broken")
    app = drawn(room("inside", tmp_path / "runs"))
    assert any("model.safetensors" in text for text in texts(app)) and "lone" not in read_as_markdown(app)
