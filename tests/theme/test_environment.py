"""Rendering of the theme, and of the templates with which a site replaces it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.contrast import contrast
from postroom.errors import TemplateError
from postroom.models import ThemeSettings
from postroom.theme.environment import PAPER, PAPER_DARK, Theme, tel_url, theme_colours
from tests.support.site import POST, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]


def theme(site_dir: Path, **templates: str) -> Theme:
    """Return the theme of a site with these templates, `pages__post` for pages/post."""
    for name, text in templates.items():
        path = site_dir / "templates" / f"{name.replace('__', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Theme(site_dir, "en")


def error_of(site_theme: Theme, template: str, **values: object) -> str:
    """Return the problem that rendering `template` raises."""
    with pytest.raises(TemplateError) as caught:
        site_theme.render(template, values)
    (problem,) = caught.value.problems
    return str(problem)


def test_one_template_can_be_replaced(make_site: MakeSite, postroom: Postroom) -> None:
    """A template of the site replaces the template of that name in the theme, and no other."""
    plain = make_site({"posts/a.md": POST}, name="plain")
    own = make_site(
        {"posts/a.md": POST, "templates/pages/post.html": "<p>{{ post.title }}"}, name="own"
    )
    postroom(plain, "build")
    postroom(own, "build")
    pages = {
        path.relative_to(plain / "public").as_posix(): path.read_bytes()
        for path in (plain / "public").rglob("*.*")
    }
    changed = {path for path, data in pages.items() if (own / "public" / path).read_bytes() != data}
    assert changed == {"posts/a/index.html", ".postroom.json"}
    assert (own / "public/posts/a/index.html").read_text() == "<p>We moved"


def test_an_edited_template_is_used_at_once(tmp_path: Path) -> None:
    """A theme uses the templates as they are now, and never those of another site."""
    here, there = tmp_path / "here", tmp_path / "there"
    assert theme(here, x="one").render("x.html", {}) == "one"
    assert theme(there, x="two").render("x.html", {}) == "two"
    edited = theme(here, x="{{ value }}")
    assert edited.render("x.html", {"value": "<"}) == "&lt;"
    assert theme(here, x="one").render("x.html", {}) == "one"


def test_html_is_escaped_and_text_is_not(tmp_path: Path) -> None:
    """HTML templates escape values; plain text and stylesheets do not."""
    site_theme = theme(tmp_path, x="{{ value }}")
    (tmp_path / "templates/x.txt").write_text("{{ value }}")
    (tmp_path / "templates/x.css").write_text("{{ value }}")
    assert site_theme.render("x.html", {"value": "<a & 'b'>"}) == "&lt;a &amp; &#39;b&#39;&gt;"
    assert site_theme.render("x.txt", {"value": "<a & 'b'>"}) == "<a & 'b'>"
    assert site_theme.render("x.css", {"value": "<a & 'b'>"}) == "<a & 'b'>"


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    """The error names the missing template."""
    assert (
        error_of(theme(tmp_path), "pages/none.html")
        == "templates/pages/none.html: does not exist; add it"
    )
    site_theme = theme(tmp_path, a="{% include 'partials/none.html' %}")
    assert error_of(site_theme, "a.html") == "templates/partials/none.html: does not exist; add it"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\n{% if %}", 2, "Expected an expression, got 'end of statement block'"),
        ("{% for x in y %}\n\n{{ x }}", 3, "Unexpected end of template."),
        ("a\n\n{{ titel }}", 3, "'titel' is undefined"),
        ("a\n{{ t.wrod }}", 2, "has no attribute 'wrod'"),
        ("a\n{{ 1 / 0 }}", 2, "ZeroDivisionError: division by zero"),
        ("{{ '}' }}\n\n\n{{ none() }}", 4, "TypeError: 'NoneType' object is not callable"),
        ("a\n{{ title|shout }}", 2, "No filter named 'shout'."),
        ("a\n{{ range(10 ** 9) }}", 2, "OverflowError: Range too big"),
    ],
    ids="syntax unclosed undefined word division call filter range".split(),
)
def test_an_error_in_a_template_has_its_line(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    """An error in a template of the site is one line with its path and line number."""
    site_theme = theme(tmp_path, pages__own=text)
    found = error_of(site_theme, "pages/own.html", title="T", t=site_theme.translations, none=None)
    assert found.startswith(f"templates/pages/own.html:{line}: ")
    assert what in found
    assert found.endswith("; correct it")
    assert "\n" not in found


def test_an_error_in_an_included_template_is_reported_there(tmp_path: Path) -> None:
    """The error names the included template, not the including one."""
    site_theme = theme(
        tmp_path, partials__deep="\n{{ gone }}", outer="{% include 'partials/deep.html' %}"
    )
    assert error_of(site_theme, "outer.html").startswith(
        "templates/partials/deep.html:2: 'gone' is undefined"
    )


def test_an_error_in_the_theme_has_the_path_of_the_theme(tmp_path: Path) -> None:
    """An error in a template of the theme has a path that begins with `theme/`."""
    found = error_of(theme(tmp_path), "pages/index.html")
    path, line, what = found.split(":", 2)
    assert path.startswith("theme/")
    assert path.endswith(".html")
    assert int(line) > 0
    assert "is undefined" in what


def test_a_template_that_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    """A template in another encoding is an error with its path."""
    site_theme = theme(tmp_path, x="")
    (tmp_path / "templates/x.html").write_bytes(b"caf\xe9")
    assert error_of(site_theme, "x.html").startswith("templates/x.html: UnicodeDecodeError: ")


@pytest.mark.parametrize(
    "text",
    [
        "{{ post.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ self._TemplateReference__context }}",
        "{{ relative_url.__code__ }}",
        "{{ '{0.__class__}'.format(post) }}",
        "{{ posts.append(1) }}",
        "{{ post|attr('__class__') }}",
        "{% include '/etc/passwd' %}",
        "{% include '../postroom.yaml' %}",
        "{% import 'os' as os %}",
    ],
)
def test_a_template_sees_values_and_nothing_else(tmp_path: Path, text: str) -> None:
    """A template from a pull request reaches neither Python objects nor other files."""
    (tmp_path / "postroom.yaml").write_text("title: Secret\n")
    site_theme = theme(tmp_path, x=text)
    values = {"post": ThemeSettings(), "posts": [], "relative_url": lambda url: url}
    assert error_of(site_theme, "x.html", **values).startswith("templates/")
    assert values["posts"] == []


@pytest.mark.parametrize("link", ["templates/x.html", "templates/sub", "templates"])
@pytest.mark.parametrize("where", ["outside", "site/.git"])
def test_a_link_to_a_file_outside_templates_is_refused(
    tmp_path: Path, link: str, where: str
) -> None:
    """A link out of templates/ is refused, because it may lead to a secret."""
    site_dir = tmp_path / "site"
    (tmp_path / where / "sub").mkdir(parents=True)
    for name in ("x.html", "sub/x.html"):
        (tmp_path / where / name).write_text("secret")
    site_dir.mkdir(exist_ok=True)
    (site_dir / link).parent.mkdir(exist_ok=True)
    target = {"templates/x.html": "x.html", "templates/sub": "sub", "templates": ""}[link]
    (site_dir / link).symlink_to(tmp_path / where / target)
    template = "sub/x.html" if link.endswith("sub") else "x.html"
    what = "is a link to a file in another folder; replace it by the file itself"
    assert error_of(Theme(site_dir, "en"), template) == f"templates/{template}: {what}"


def test_translations_behind_a_link_are_refused(tmp_path: Path) -> None:
    """Translations are not read through a link out of templates/."""
    (tmp_path / "secret.yaml").write_text("contact: secret\n")
    site_dir = tmp_path / "site"
    (site_dir / "templates/translations").mkdir(parents=True)
    (site_dir / "templates/translations/en.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(TemplateError, match=r"^templates/translations/en\.yaml: is a link to "):
        _ = Theme(site_dir, "en").translations


def test_a_link_between_templates_is_followed(tmp_path: Path) -> None:
    """A link from one template to another is followed."""
    site_theme = theme(tmp_path, real="fine")
    (tmp_path / "templates/alias.html").symlink_to("real.html")
    assert site_theme.render("alias.html", {}) == "fine"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"contact: [a]\n", "templates/translations/en.yaml:1:10: contact: found a list; "),
        (b"- a\n", "templates/translations/en.yaml:"),
        (b"contact: 'x\n", "templates/translations/en.yaml:"),
        (
            b"contact: caf\xe9\n",
            "templates/translations/en.yaml: is not UTF-8 text; save it as UTF-8",
        ),
    ],
    ids=["list", "no mapping", "quote", "bytes"],
)
def test_an_error_in_translations_is_named(tmp_path: Path, text: bytes, found: str) -> None:
    """Translations that cannot be read are one line with their path."""
    path = tmp_path / "templates/translations/en.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    with pytest.raises(TemplateError) as caught:
        _ = Theme(tmp_path, "en").translations
    assert str(caught.value.problems[0]).startswith(found)


@pytest.mark.parametrize(
    "text",
    [
        "{:>4000000000}",  # would fill the memory
        "{:{}}",
        "{!r}",
        "{0}",
        "{name}",
        "{.__class__}",  # would read an attribute of an object
        "{} and {}",
        "{",
        "}",
        "{{}}",
    ],
)
def test_a_translation_holds_at_most_one_bare_placeholder(tmp_path: Path, text: str) -> None:
    """A pull request may change translations, so a placeholder has no width, name or conversion."""
    path = tmp_path / "templates/translations/en.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"contact: '{text}'\n")
    with pytest.raises(TemplateError) as caught:
        _ = Theme(tmp_path, "en").translations
    assert str(caught.value) == (
        f"templates/translations/en.yaml:1:10: contact: found '{text}'; "
        "write {} in place of a value, and no other braces"
    )


def test_an_error_in_a_template_stops_the_build(make_site: MakeSite, postroom: Postroom) -> None:
    """A build with a wrong template prints one line, exits with 1 and writes nothing."""
    folder = make_site({"posts/a.md": POST, "templates/pages/post.html": "\n{{ nothing }}"})
    outcome = postroom(folder, "build")
    line = "error: templates/pages/post.html:2: 'nothing' is undefined; correct it\n"
    assert (outcome.code, outcome.out, outcome.err) == (1, "", line)
    assert not (folder / "public").exists()


@pytest.mark.parametrize(
    ("number", "address"),
    [
        ("+86 180-7235 8327", "tel:+8618072358327"),
        ("+1 (212) 555.0100", "tel:+12125550100"),
        ("+49 (0) 30 / 1234567", "tel:+49301234567"),
        ("+44 (0)20 7946 0018", "tel:+442079460018"),
    ],
)
def test_a_phone_number_is_linked_in_its_global_form(number: str, address: str) -> None:
    """A phone number is linked in the form of E.164, whatever punctuation it has."""
    assert tel_url(number) == address


@given(accent=st.integers(0, 0xFFFFFF).map("#{:06x}".format))
def test_any_accent_is_readable(accent: str) -> None:
    """Every accent gets a contrast of 4.5 on light and dark (WCAG 2.2, SC 1.4.3)."""
    found = theme_colours(ThemeSettings(accent=accent))
    assert contrast(found.accent, PAPER) >= 4.5
    assert contrast(found.accent_dark, PAPER_DARK) >= 4.5
    assert contrast(found.on_accent, found.accent) >= 4.5


@pytest.mark.parametrize("accent", ["#0b6b62", "#000000", "#767676"])
def test_a_readable_accent_is_unchanged(accent: str) -> None:
    """An accent with enough contrast on white is used unchanged."""
    assert theme_colours(ThemeSettings(accent=accent)).accent == accent


@pytest.mark.parametrize("name", [".git/config", "sub/.secret", ".env"])
@pytest.mark.parametrize("through", ["", "alias.html"])
def test_a_hidden_file_is_no_template(tmp_path: Path, name: str, through: str) -> None:
    """Hidden files below templates/ are refused: the settings of a clone may hold passwords."""
    site_theme = theme(tmp_path)
    (tmp_path / "templates" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "templates" / name).write_text("secret")
    if through:
        (tmp_path / "templates" / through).symlink_to(name)
    step = next(step for step in name.split("/") if step.startswith("."))
    what = f"leads to the hidden '{step}'; move it to a file that is not hidden"
    assert error_of(site_theme, through or name) == f"templates/{through or name}: {what}"
