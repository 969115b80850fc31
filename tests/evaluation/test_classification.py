"""Figures of classification against scikit-learn where it is installed, closed forms and the bootstrap; and the bag of words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.data.labelled import LabelledTexts
from gpt_kit.errors import DataError
from gpt_kit.evaluation.bag_of_words import BagOfWords
from gpt_kit.evaluation.classification import classification_figures, confusion_matrix
from gpt_kit.evaluation.confusion import confusion_lines, draw_confusion_png
from gpt_kit.evaluation.statistics import Figure


def answers(count: int, num_labels: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Labels, not all equally many, and answers that are right about two times in three."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(num_labels, count, p=np.arange(1, num_labels + 1) / sum(range(1, num_labels + 1)))
    given = np.where(rng.random(count) < 0.5, labels, rng.integers(0, num_labels, count))
    return labels.tolist(), given.tolist()


def figures(labels: list[int], given: list[int], num_labels: int) -> dict[str, Figure]:
    return {figure.metric: figure for figure in classification_figures(confusion_matrix(labels, given, num_labels))}


def test_two_labels_by_hand() -> None:
    """3 of label 1 found, 1 missed, 2 of label 0 taken for it, 4 right."""
    found = figures([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 0, 0, 0], 2)
    assert found["accuracy"].value == 0.7
    assert found["f1"].value == pytest.approx(2 * 0.6 * 0.75 / (0.6 + 0.75))
    assert found["matthews"].value == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))
    assert {figure.count for figure in found.values()} == {10}


@pytest.mark.parametrize("num_labels", [2, 3, 7])
def test_figures_are_those_of_scikit_learn(num_labels: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, given = answers(300, num_labels)
    found = figures(labels, given, num_labels)
    average = ("f1", "binary") if num_labels == 2 else ("macro_f1", "macro")
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(labels, given))
    assert found[average[0]].value == pytest.approx(metrics.f1_score(labels, given, average=average[1]))
    assert found["matthews"].value == pytest.approx(metrics.matthews_corrcoef(labels, given))
    assert (confusion_matrix(labels, given, num_labels) == metrics.confusion_matrix(labels, given)).all()


def test_the_accuracys_standard_error_is_the_closed_form() -> None:
    labels, given = answers(57, 3)
    accuracy = figures(labels, given, 3)["accuracy"]
    assert accuracy.stderr == pytest.approx(math.sqrt(accuracy.value * (1 - accuracy.value) / 56), rel=1e-12)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_standard_errors_are_those_of_the_bootstrap(num_labels: int) -> None:
    """1,000 resamplings know a standard error to within some 2 %; a formula that forgets a factor is further off."""
    labels, given = (np.array(column) for column in answers(400, num_labels))
    found = figures(labels.tolist(), given.tolist(), num_labels)
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, 400, 400) for _ in range(1000)]
    drawn = [figures(labels[draw].tolist(), given[draw].tolist(), num_labels) for draw in draws]
    for name, figure in found.items():
        assert figure.stderr == pytest.approx(np.std([sample[name].value for sample in drawn]), rel=0.1), name


def test_what_cannot_be_divided_is_zero_and_one_example_has_no_standard_error() -> None:
    always = figures([0, 1, 0], [0, 0, 0], 2)
    assert (always["f1"].value, always["matthews"].value) == (0, 0)
    assert figures([1], [1], 2)["accuracy"].stderr is None
    with pytest.raises(DataError, match="no example"):
        confusion_matrix([], [], 2)


def test_the_matrix_is_drawn_and_told(tmp_path: Path) -> None:
    """Labels may hold what matplotlib takes for mathematics."""
    matrix = confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 3)
    labels = ("$5", "x^$y", "a long name")
    draw_confusion_png(tmp_path / "small.png", matrix, labels, "100 % of $")
    draw_confusion_png(tmp_path / "large.png", confusion_matrix([0, 39], [39, 0], 40), [str(i) for i in range(40)], "40 labels")
    for name in ("small", "large"):
        assert (tmp_path / f"{name}.png").read_bytes()[1:4] == b"PNG"
    assert confusion_lines(matrix, labels) == [
        "label \\ answer           $5         x^$y  a long name",
        "$5                        1            1            0",
        "x^$y                      0            1            0",
        "a long name               1            0            0",
    ]


# --- the bag of words ---

WORDS = ["good", "bad", "fine", "dull", "film", "plot", "not", "very", "moving", "slow"]


def reviews(count: int, num_labels: int = 2, seed: int = 0) -> LabelledTexts:
    """Texts of ten words, whose label follows some of them, with noise."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, len(WORDS), 6) for _ in range(count)]
    scores = [rng.normal() + (row == 0).sum() * 2 - (row == 1).sum() * 2 for row in rows]
    labels = np.digitize(scores, np.linspace(-1, 1, num_labels + 1)[1:-1])
    texts = tuple(" ".join(WORDS[word] for word in row) + " a I ." for row in rows)
    return LabelledTexts(texts, tuple(labels.tolist()), tuple(map(str, range(num_labels))), ("",) * count)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_the_bag_of_words_is_scikit_learns_logistic_regression(num_labels: int) -> None:
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = reviews(200, num_labels)
    ours = BagOfWords(data.texts, data.labels, num_labels)
    vectorizer = CountVectorizer()
    theirs = LogisticRegression(tol=1e-8, max_iter=1000).fit(vectorizer.fit_transform(data.texts), data.labels)
    assert ours.vocabulary == vectorizer.vocabulary_
    weight = ours.weight[:, 1:] if num_labels == 2 else ours.weight
    np.testing.assert_allclose(weight[:-1].T.numpy(), theirs.coef_, atol=1e-4)
    if num_labels == 2:  # of more labels, all biases may be moved together
        np.testing.assert_allclose(weight[-1].numpy(), theirs.intercept_, atol=1e-4)
    new = reviews(50, num_labels, seed=1)
    assert ours(new.texts) == theirs.predict(vectorizer.transform(new.texts)).tolist()


def test_the_bag_of_words_stands_where_its_gradient_is_zero() -> None:
    """The optimum in closed form: w = C · Σ (label - probability) · counts, and the residuals sum to 0."""
    data = reviews(80)
    model = BagOfWords(data.texts, data.labels, 2, inverse_regularisation=0.5)
    counts = np.array([[text.split().count(word) for word in model.vocabulary] for text in data.texts])
    weight, bias = model.weight[:-1, 1].numpy(), model.weight[-1, 1].item()
    residuals = np.array(data.labels) - 1 / (1 + np.exp(-(counts @ weight + bias)))
    np.testing.assert_allclose(weight, 0.5 * counts.T @ residuals, atol=1e-4)
    assert abs(residuals.sum()) < 1e-4
    assert model(["good good good", "bad bad", "unheard of words", ""])[:2] == [1, 0]
