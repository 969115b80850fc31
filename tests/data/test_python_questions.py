"""The lesson of `quickstart --chat`: one answer to each question, and every question in one conversation."""

from __future__ import annotations

from gpt_kit.data import read_conversations
from gpt_kit.data.python_questions import QUESTIONS, first_paragraph, read_python_questions


def test_a_question_has_one_answer_and_an_answer_one_subject() -> None:
    questions = list(read_python_questions())
    assert len(questions) > 1000
    assert len({question for question, _, _ in questions}) == len(questions)
    assert len({(answer, name) for _, answer, name in questions}) * len(QUESTIONS) == len(questions)
    assert len({answer for _, answer, _ in questions}) * len(QUESTIONS) == len(questions)
    assert ("What does random.shuffle do?", "Shuffle list x in place, and return None.", "random.shuffle") in questions


def test_conversations_hold_every_question_once() -> None:
    conversations = read_conversations("python-docs")
    asked = [message.content for conversation in conversations for message in conversation.messages if message.role == "user"]
    assert sorted(asked) == sorted(question for question, _, _ in read_python_questions())
    assert {len(conversation.messages) for conversation in conversations} >= {2, 4, 6, 8}


def test_an_answer_is_a_whole_sentence_on_one_line() -> None:
    assert first_paragraph("  Return a\n  thing.\n\nMore.") == "Return a thing."
    assert first_paragraph("no sentence") == ""
