"""The messages of the package: the texts in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import trove_async
from trove_async.dsn import redact

PACKAGE = Path(trove_async.__file__).parent


def texts(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the strings of a module, except docstrings and the parts of f-strings."""
    skipped = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
    for node in ast.walk(tree):
        if id(node) not in skipped and isinstance(node, ast.JoinedStr | ast.Constant):
            yield node


def content(node: ast.expr) -> str:
    """Return the text of a string; a blank stands for each value in an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(content(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else " "


def test_no_advice_looks_like_a_secret() -> None:
    # The command hides secrets in all that it prints: "give password=…" would come out as "give password=***".
    hidden = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {content(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in texts(ast.parse(path.read_text()))
        if redact(content(node)) != content(node)
    ]
    assert hidden == []
