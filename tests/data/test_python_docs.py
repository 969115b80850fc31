"""The embedded corpus: what it holds, that nothing stands in it twice, and that reading it has no effect."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from textwrap import dedent

import pytest

from gpt_kit.data import Document, python_docs
from gpt_kit.data.python_docs import read_python_docs


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return list(read_python_docs())


def digest(documents: Iterable[Document]) -> str:
    return hashlib.sha256("\0".join(document.origin + document.text for document in documents).encode()).hexdigest()


@pytest.fixture(scope="module")
def elsewhere() -> dict:
    """One reading in a fresh process where every warning is an error."""
    script = """if True:
        import hashlib, json, sys, time
        from gpt_kit.data.python_docs import read_python_docs
        before, start = set(sys.modules), time.process_time()
        documents = list(read_python_docs())
        seconds = time.process_time() - start
        imported = [name for name in set(sys.modules) - before if not name.startswith("_sysconfig")]
        digest = hashlib.sha256("\\0".join(document.origin + document.text for document in documents).encode()).hexdigest()
        print(json.dumps({"imported": imported, "seconds": seconds, "digest": digest}))
    """
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True)
    return json.loads(run.stdout) | {"stderr": run.stderr}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of our own: file name -> source."""
    monkeypatch.setattr(python_docs, "_language_topics", dict)
    monkeypatch.setattr(python_docs, "SMALLEST_DOCUMENT", 1)
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda _: str(tmp_path))

    def read(**sources: str) -> dict[str, str]:
        for name, source in sources.items():
            file = tmp_path / (name.replace("__in__", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        return {document.origin.removeprefix("python-docs/"): document.text for document in read_python_docs()}

    return read


def test_the_corpus_is_megabytes_of_topics_modules_classes_and_functions(corpus):
    text = {document.origin: document.text for document in corpus}
    assert len(text) == len(corpus), "an origin names one document"
    assert 1_500_000 < sum(len(part.encode()) for part in text.values()) < 4_000_000
    assert text["python-docs/topics/assert"].startswith('assert\n\nThe "assert" statement\n')
    assert text["python-docs/random"].startswith("random\n\nRandom variable generators.\n")
    assert "\nrandom.Random.shuffle(x)\n\nShuffle list x in place, and return None.\n" in text["python-docs/random.Random"]
    assert text["python-docs/json.decoder.JSONDecoder"].startswith("class json.decoder.JSONDecoder\n\nSimple JSON")
    assert text["python-docs/textwrap.dedent"].startswith("textwrap.dedent(text)\n\nRemove any common leading whitespace")
    assert "python-docs/json" in text, "a package stands under its own name"


def test_a_reading_in_another_process_is_equal(corpus, elsewhere):
    """With another hash seed: an order that comes from a set would differ."""
    assert elsewhere["digest"] == digest(corpus)


def test_tests_and_installed_packages_are_no_part_of_it(corpus):
    paths = [document.origin.removeprefix("python-docs/").split("/")[0].split(".") for document in corpus]
    assert not {path[0] for path in paths} & {"site-packages", "test", "tests", "turtledemo", "ensurepip", "numpy", "pytest"}
    assert not {part for path in paths for part in path} & {"site-packages", "idle_test"}


def test_no_long_docstring_stands_in_two_documents(corpus):
    """Counted on whole sections (header line, text), as a held-out module would meet them in training."""
    counts = Counter()
    for document in corpus:
        if "/topics/" not in document.origin:
            counts.update({section for section in document.text.split("\n\n") if len(section) > 400})
    repeated = sum(len(section) * (count - 1) for section, count in counts.items())
    assert repeated < 0.01 * sum(len(document.text) for document in corpus)


def test_a_topic_that_is_part_of_a_longer_one_is_left_out(corpus):
    topics = {document.origin.rpartition("/")[2] for document in corpus if "/topics/" in document.origin}
    assert "compound" in topics
    assert not topics & {"if", "while", "for", "try", "with"}, "they are sections of 'compound'"


def test_every_document_is_utf8_and_no_shorter_than_it_must_be(corpus):
    for document in corpus:
        document.text.encode()
        assert "\0" not in document.text and "\f" not in document.text
        assert "/topics/" in document.origin or len(document.text) >= python_docs.SMALLEST_DOCUMENT


def test_nothing_is_imported_and_no_warning_leaks(elsewhere):
    """`antigravity` and `this` would have effects; an invalid escape in a library would raise under -W error."""
    assert set(elsewhere["imported"]) == {"pydoc_data", "pydoc_data.topics"}
    assert elsewhere["stderr"] == ""


def test_reading_takes_seconds(elsewhere):
    """Measured: 1.8 s on one core of the build machine; the limit leaves room for a busy one."""
    assert elsewhere["seconds"] < 6


def test_a_module_becomes_its_docstrings_in_source_order(library):
    source = '''
        """About the module."""
        import sys
        if sys.platform == "win32":
            def open(path, mode="r", /, *, safe: bool = True):
                """Opens."""
        class Shape(Base, metaclass=Meta):
            """A shape."""
            def area(self, *args, **kwargs):
                """Its area.

                    indented example
                plain again
                """
            @classmethod
            def unit(cls): "The unit shape."
            @staticmethod
            def of(kind): "A shape of a kind."
            class Inner:
                async def wait(self): "Waits."
        def undocumented(x):
            def local(): "Not reachable from outside."
        try:
            pass
        except ImportError:
            def fallback(): "Stands in."
    '''
    expected = """\
        shapes

        About the module.

        shapes.open(path, mode='r', /, *, safe: bool=True)

        Opens.

        class shapes.Shape(Base)

        A shape.

        shapes.Shape.area(*args, **kwargs)

        Its area.

            indented example
        plain again

        shapes.Shape.unit()

        The unit shape.

        shapes.Shape.of(kind)

        A shape of a kind.

        shapes.Shape.Inner.wait()

        Waits.

        shapes.fallback()

        Stands in.
    """
    texts = library(shapes=dedent(source))
    assert list(texts) == ["shapes", "shapes.open", "shapes.Shape", "shapes.fallback"]
    assert "\n".join(texts.values()).splitlines() == dedent(expected).splitlines()


def test_short_definitions_go_into_their_modules_document(library, monkeypatch):
    """And what is still too short then is left out, with nothing lost in between."""
    monkeypatch.setattr(python_docs, "SMALLEST_DOCUMENT", 40)
    long = "A sentence that is long enough to stand alone."
    texts = library(a=f'def f(): """{long}"""\ndef g(): "Short, but with others enough."\ndef h(): "Short."', b='"""Tiny."""')
    assert texts == {"a": "a\n\na.g()\n\nShort, but with others enough.\n\na.h()\n\nShort.\n", "a.f": f"a.f()\n\n{long}\n"}


def test_a_long_signature_is_cut_between_two_arguments(library):
    arguments = ", ".join(f"argument_{i}=None" for i in range(20))
    header = library(m=f'def f({arguments}):\n    """Documented."""')["m.f"].splitlines()[0]
    assert header.startswith("m.f(argument_0=None, ") and header.endswith("=None, ...)")
    assert len(header) < python_docs.LONGEST_SIGNATURE + 15


def test_a_long_docstring_is_kept_where_it_stands_first(library):
    """Short ones may repeat; the second copy of a long one goes, with its header, also within one module."""
    long, short = "Copied from one module into another. " * 3, "See the base class."
    source = f'def f():\n    """{long}"""\ndef g():\n    """{short}"""\ndef h():\n    """{long}"""\n'
    texts = library(a=source, b=source)
    assert texts == {"a.f": f"a.f()\n\n{long.strip()}\n", "a.g": f"a.g()\n\n{short}\n", "b.g": f"b.g()\n\n{short}\n"}


def test_files_that_are_no_python_and_folders_that_are_no_library_are_passed_over(library):
    documented = '"""Some documentation."""'
    texts = library(
        good=documented,
        zoo=documented,
        broken='"""Never closed',
        package__in____init__=documented,
        package__in__part=documented,
        package__in__tests__in__test_part=documented,
        bare="x = 1",
        **{"site-packages__in__other": documented},
    )
    assert list(texts) == ["good", "package", "package.part", "zoo"], "sorted by name, whatever the folder's order"


def test_an_invalid_escape_in_a_library_does_not_warn_its_reader(library):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library(old='"""Matches \\d digits."""') == {"old": "old\n\nMatches \\d digits.\n"}


def test_a_python_without_sources_gives_nothing(library):
    assert library() == {}
