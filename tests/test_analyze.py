"""What the demonstration finds in the content of one file."""

from __future__ import annotations

import hashlib
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyze.facts import UNPARSABLE, UNREADABLE, FileFacts, FunctionFacts
from analyze.source import analyze_source, count_lines

MATCH = pytest.mark.skipif(sys.version_info < (3, 10), reason="match is new in Python 3.10")
EXCEPT_STAR = pytest.mark.skipif(sys.version_info < (3, 11), reason="except* is new in Python 3.11")
TYPE_PARAMETERS = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")


def facts_of(source: str) -> FileFacts:
    facts = analyze_source(source.encode())
    assert facts.problem is None, facts.problem
    return facts


def complexities(source: str) -> dict[str, int]:
    return {function.name: function.complexity for function in facts_of(source).functions}


# Complexity: one row per rule -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("pass", 1),
        ("return a < b < c", 1),
        ("raise ValueError", 1),
        ("with a, b: pass", 1),
        ("if a: pass", 2),
        ("if a: pass\n else: pass", 2),
        ("if a: pass\n elif b: pass\n else: pass", 3),
        ("return 1 if a else 2", 2),
        ("return 1 if a else 2 if b else 3", 3),
        ("for a in b: pass", 2),
        ("for a in b: pass\n else: pass", 2),
        ("while a: pass", 2),
        ("while a: pass\n else: pass", 2),
        ("while True: break", 2),
        ("try: pass\n finally: pass", 1),
        ("try: pass\n except A: pass\n except B: pass\n else: pass", 3),
        ("try: pass\n except: pass", 2),
        ("assert a", 2),
        ("assert a, b or c", 3),
        ("return a and b", 2),
        ("return a and b and c", 3),
        ("return a and b or c", 3),
        ("return not a", 1),
        ("if a and b: pass", 3),
        ("return [x for x in a]", 2),
        ("return {x for x in a if x}", 3),
        ("return {x: y for x in a for y in b if x if y}", 5),
        ("return any(x for x in a if x or b)", 4),
        ("return lambda x: x", 1),
        ("return lambda x: x or a", 2),
        ("def inner(): return a or b\n return inner", 1),
        ("def inner(x=a or b): pass", 2),
        ("def inner(x: a or b) -> a or b: pass", 3),
        ("@(a or b)\n def inner(): pass", 2),
        ("class C:\n  if a: x = 1", 2),
        ("class C(a or b): pass", 2),
        ("x = [\n a or b,\n lambda: [y for y in c]]", 3),
        ("return f'{a or b}'", 2),
        pytest.param("match a:\n  case 1: pass", 2, marks=MATCH),
        pytest.param("match a:\n  case 1: pass\n  case _: pass", 2, marks=MATCH),
        pytest.param("match a:\n  case 1: pass\n  case x: pass", 2, marks=MATCH),
        pytest.param("match a:\n  case 1 | 2: pass\n  case [_, x]: pass", 3, marks=MATCH),
        pytest.param("match a:\n  case 1 if b: pass\n  case _ if b: pass\n  case _: pass", 4, marks=MATCH),
        pytest.param("match a:\n  case [_] as x: pass", 2, marks=MATCH),
        pytest.param("try: pass\n except* A: pass\n except* B: pass", 3, marks=EXCEPT_STAR),
    ],
)
def test_complexity_of_a_body(body, complexity):
    assert complexities(f"def f(a, b, c):\n {body}\n")["f"] == complexity


def test_async_constructs_count_like_their_plain_forms():
    source = (
        "async def f(a):\n async for x in a: pass\n async with a: pass\n return [x async for x in a if x]\n"
    )
    assert complexities(source) == {"f": 4}


def test_nested_functions_count_on_their_own():
    source = "def f():\n def g():\n  if a: pass\n  def h():\n   while a or b: pass\n if a: pass\n"
    assert complexities(source) == {"f": 2, "f.<locals>.g": 2, "f.<locals>.g.<locals>.h": 3}


def test_code_outside_functions_is_not_counted():
    assert complexities("if a or b: pass\nclass C:\n if a: x = 1\n def m(self): pass\n") == {"C.m": 1}


@TYPE_PARAMETERS
def test_type_parameters_are_walked():
    assert complexities("def f[T: (int, str)](x: T): pass\nclass C[T]:\n def m(self): pass\n") == {
        "f": 1,
        "C.m": 1,
    }


# Functions, classes, imports ------------------------------------------------------------------


def test_names_are_qualified_names():
    source = (
        "class A:\n def m(self): pass\n class B:\n  async def m(self):\n   class C:\n    def n(self): pass\n"
        "if x:\n def f(): pass\nelse:\n def f(): pass\n"
    )
    facts = facts_of(source)
    assert [(function.name, function.line) for function in facts.functions] == [
        ("A.m", 2),
        ("A.B.m", 4),
        ("A.B.m.<locals>.C.n", 6),
        ("f", 8),
        ("f", 10),
    ]
    assert facts.classes == 3


def test_names_are_those_python_gives():
    def outer():
        class Local:
            def method(self):
                pass

        return Local.method

    with open(__file__, "rb") as file:
        facts = analyze_source(file.read())
    assert outer().__qualname__ in [function.name for function in facts.functions]


def test_lines_of_a_function_begin_at_its_def():
    facts = facts_of("@decorated(\n 1)\ndef f():\n '''text\n\n'''\n # comment\n return 1\n\n\nx = 1\n")
    assert facts.functions == (FunctionFacts("f", 3, 6, 1),)
    assert facts.longest == facts.functions[0]


def test_longest_function_is_the_first_of_equals():
    facts = facts_of("def a():\n pass\ndef b():\n pass\n\n pass\ndef c():\n pass\n\n pass\n")
    assert facts.longest is not None
    assert (facts.longest.name, facts.longest.lines) == ("b", 4)
    assert facts_of("x = 1").longest is None


def test_imports_are_top_level_modules():
    source = (
        "import os.path, sys as s\nfrom a.b import c\nfrom . import x\nfrom .y import z\n"
        "from __future__ import d\n"
        "def f():\n import json\n if 1:\n  from os import sep\n"
    )
    assert facts_of(source).imports == ("__future__", "a", "json", "os", "sys")


# Content: lines, encodings, what does not parse ----------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"x", 1),
        (b"x\n", 1),
        (b"x\ny", 2),
        (b"x\r\ny\r\n", 2),
        (b"x\ry\r", 2),
        (b"x\r\n\ry\n\r", 4),
        (b"x\x0cy\x0b\n", 1),
    ],
)
def test_lines_are_counted_as_python_does(content, lines):
    assert count_lines(content) == lines


def test_line_ends_do_not_move_functions():
    for end in (b"\n", b"\r\n", b"\r"):
        facts = analyze_source(end.join([b"import os", b"def f():", b" return 1", b""]))
        assert (facts.lines, facts.functions, facts.imports) == (3, (FunctionFacts("f", 2, 2, 1),), ("os",))


def test_an_empty_file_has_facts():
    facts = analyze_source(b"", "a.py")
    assert facts == FileFacts("a.py", sha256=hashlib.sha256().hexdigest())


def test_sha256_is_of_the_bytes():
    content = "# coding: latin-1\nx = '\xe4'\n".encode("latin-1")
    facts = analyze_source(content)
    assert (facts.sha256, facts.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfdef f(): pass\n",
        b"\xef\xbb\xbf# coding: utf-8\ndef f(): pass\n",
        b"# -*- coding: latin-1 -*-\ndef f(): return '\xe4'\n",
        b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\ndef f(): return '\x80'\n",
        "def f(): return '\u20ac'\n".encode(),
    ],
)
def test_declared_encodings_are_read(content):
    facts = analyze_source(content)
    assert facts.problem is None
    assert [function.name for function in facts.functions] == ["f"]


@pytest.mark.parametrize(
    "content",
    [
        b"# coding: no-such-encoding\n",
        b"# coding: hex\nx = 1\n",
        b"# coding: ascii\nx = '\xe4'\n",
        b"\xef\xbb\xbf# coding: latin-1\n",
        b"x = '\xe4'\n",
        b"\n" * 9 + b"x = '\xe4'\n",
        b"\xff\xfex\x00",
    ],
)
def test_wrong_encodings_are_unreadable(content):
    facts = analyze_source(content)
    assert facts.problem is not None
    assert facts.problem.kind == UNREADABLE
    assert facts.problem.reason
    assert facts.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"x =\n",
        b"print 'python 2'\n",
        b"x\x00y = 1\n",
        b"\x00",
        b"if x:\npass\n",
        b"(" * 300 + b")" * 300,
        b"-" * 100_000 + b"1",
        b"lambda:" * 5000 + b"1",
    ],
    ids=range(8),
)
def test_what_the_parser_refuses_is_unparsable(content):
    facts = analyze_source(content)
    assert facts.problem is not None
    assert facts.problem.kind == UNPARSABLE
    assert facts.problem.reason
    assert facts.lines == count_lines(content)


def test_a_syntax_error_names_its_line():
    problem = analyze_source(b"x = 1\ny = 2\nz =\n").problem
    assert problem is not None
    assert problem.line == 3


def test_deep_trees_that_parse_are_walked():
    # Not one that the parser of some versions refuses: about 90 levels of each bracket.
    source = "def f():\n return " + "[x or " * 90 + "1" + "]" * 90 + "\n"
    assert complexities(source) == {"f": 91}
    long_chain = "if a: pass\n" + "".join(f"elif a{i}: pass\n" for i in range(900))
    facts = analyze_source(b"def f():\n " + long_chain.replace("\n", "\n ").encode())
    assert facts.problem is not None or facts.functions[0].complexity == 902


TOKENS = [
    *["def f(", "):", "\n", "\n ", " ", "class C:", "if ", "else:", "import a.b", "from . import ", "x", "1"],
    *["lambda ", "[", "]", "(", ")", "for ", " in ", "match x:", "case _:", "async ", "await ", "'", '"""'],
    *["# coding: utf-16", "\\", "\x00", "\x0c", "\t", "\ufeff", "\ud800", "f'{", "}", ":=", "@", "*"],
    *["yield ", "type X = ", "try:", "except* "],
]


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.text(), st.lists(st.sampled_from(TOKENS)).map("".join)))
def test_no_text_raises(text):
    content = text.encode("utf-8", "surrogatepass")
    facts = analyze_source(content)
    assert facts.lines == count_lines(content) == len(content.splitlines())
    assert (facts.problem is None) or not (facts.functions or facts.classes or facts.imports)
    assert all(function.complexity >= 1 and function.lines >= 1 for function in facts.functions)


@settings(deadline=None, max_examples=100)
@given(
    st.binary(),
    st.sampled_from([b"", b"# coding: ", b"\xef\xbb\xbf", b"# coding: utf-7\n", b"# coding: idna\n"]),
)
def test_no_bytes_raise(content, start):
    assert analyze_source(start + content).size_bytes == len(start + content)
