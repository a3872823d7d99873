"""Templates of a pull request end, and fill no memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.errors import TemplateError
from postroom.theme import sandbox
from postroom.theme.environment import Theme

LARGE = "{% set n = namespace(x='x' * 1000) %}"


def render(folder: Path, text: str) -> str:
    """Render a template of a site."""
    (folder / "templates/pages").mkdir(parents=True)
    (folder / "templates/pages/own.html").write_text(text)
    return Theme(folder, "en").render("pages/own.html", {"posts": ["a", "b"]})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ 'x' * 10 ** 9 }}", "makes more than 50,000,000 characters"),
        ("{{ 'x' * 1000000000 }}", "makes more than 50,000,000 characters"),
        ("{{ 1000000000 * [1] }}", "makes more than 50,000,000 characters"),
        ("{{ 10 ** 10 ** 10 }}", "uses a number or text beyond"),
        ("{{ '%999999999d' % 1 }}", "formats with a width beyond 10,000"),
        ("{{ '%*d' % (999999999, 1) }}", "formats with a width beyond 10,000"),
        ("{{ '%.999999999f' % 1 }}", "formats with a width beyond 10,000"),
        ("{{ '%999999999d'|format(1) }}", "formats with a width beyond 10,000"),
        ("{{ '{:>999999999}'.format(1) }}", "formats with a width beyond 10,000"),
        ("{{ '{:{}}'.format(1, 999999999) }}", "formats with a width that is a variable"),
        ("{{ '{a:>999999999}'.format_map({'a': 1}) }}", "formats with a width beyond 10,000"),
        ("{{ 'x'.center(999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ 'x'.ljust(999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ 'x'.zfill(999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ '\t'.expandtabs(tabsize=999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ 'x'|center(999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ 'x\ny'|indent(width=999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ posts|tojson(indent=999999999) }}", "uses a number or text beyond 10,000"),
        ("{{ posts|batch(999999999, 'x')|list }}", "uses a number or text beyond 10,000"),
        ("{{ posts|slice(999999999)|list }}", "uses a number or text beyond 10,000"),
        ("{{ 1.5|round(999999999, 'ceil') }}", "uses a number or text beyond 10,000"),
        ("{{ lipsum(999999) }}", "'lipsum' is undefined"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "takes more than 100,000 steps",
        ),
        (
            "{% macro m(n) %}{{ m(n - 1) ~ m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
            "takes more than 100,000 steps",
        ),
        (
            LARGE + "{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "makes a text of more than 50,000,000 characters",
        ),
        (
            LARGE + "{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "makes a text of more than 50,000,000 characters",
        ),
        (
            LARGE + "{% for a in range(9) %}{% set n.x = n.x|replace('x', n.x) %}{% endfor %}",
            "makes a text of more than 50,000,000 characters",
        ),
        (
            LARGE + "{% for a in range(9) %}{% set n.x = n.x.replace('x', n.x) %}{% endfor %}",
            "makes a text of more than 50,000,000 characters",
        ),
        (
            "{% macro m(x, n) %}{{ m(x ~ x, n - 1) if n }}{% endmacro %}{{ m('x', 99) }}",
            "makes a text of more than 50,000,000 characters",
        ),
        (
            LARGE + "{% for a in range(60000) %}{{ n.x }}{% endfor %}",
            "makes more than 50,000,000 characters",
        ),
        (
            LARGE + "{% set y %}{% for a in range(60000) %}{{ n.x }}{% endfor %}{% endset %}",
            "makes more than 50,000,000 characters",
        ),
    ],
)
def test_a_greedy_template_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, what: str
) -> None:
    """A template that would run for hours or fill the memory is one line of error."""
    monkeypatch.setattr(sandbox, "MOST_STEPS", 100_000)
    with pytest.raises(TemplateError) as caught:
        render(tmp_path, text)
    (problem,) = caught.value.problems
    assert str(problem).startswith("templates/pages/own.html:")
    assert what in str(problem)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (
            "{% for p in posts %}{{ loop.index }}/{{ loop.length }}{{ p }} {% endfor %}",
            "1/2a 2/2b ",
        ),
        ("{% for p in posts if p != 'a' %}{{ loop.last }}{% else %}none{% endfor %}", "True"),
        ("{% for p in [] %}{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ '=' * 20 }}{{ 3 * 4 }}{{ 2 ** 8 }}", "=" * 20 + "12256"),
        ("{{ '%05.1f' % 2.5 }} {{ '%s'|format('x') }} {{ '{:>4}'.format(1) }}", "002.5 x    1"),
        ("{{ 'a-b'|replace('-', '+') }}{{ 'a-b'.replace('-', '+') }}", "a+ba+b"),
        ("{{ 'x'|center(3) }}{{ 2.345|round(1) }}{{ posts|batch(2)|list }}", " x 2.3[['a', 'b']]"),
        ("{% set x = 'a' %}{% set y, z = 1, 2 %}{{ x }}{{ y }}{{ z }}", "a12"),
        ("{% set x %}{{ posts|join }}{% endset %}{{ x }}", "ab"),
    ],
)
def test_templates_keep_what_jinja_does(tmp_path: Path, text: str, made: str) -> None:
    """The limits change nothing for templates that stay within them."""
    assert render(tmp_path, text).replace("&#39;", "'") == made
