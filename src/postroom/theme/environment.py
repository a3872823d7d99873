"""The theme and a newsroom's overrides of it → rendered text."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import jinja2
from attrs import define, field, frozen
from jinja2 import FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.exceptions import SecurityError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from postroom.contrast import ensure_contrast
from postroom.errors import Problem, TemplateError
from postroom.models import ThemeSettings
from postroom.settings import paths, validation
from postroom.settings.yaml_reader import Node, YamlError, parse
from postroom.theme.i18n import Translations, load_translations

_WORDS_LIMIT = 64 * 1024
PAPER, PAPER_DARK = "#ffffff", "#14171a"
"""The backgrounds on which the theme's colours stand, by day and by night."""
# Where a noun lives is nothing that a template's owner needs to know.
_MODULE = re.compile(r"postroom\.models\.")


@frozen
class ThemeColours:
    """The accent as it can be read on the theme's two backgrounds (WCAG 2.2, SC 1.4.3)."""

    accent: str
    accent_dark: str
    on_accent: str


def theme_colours(settings: ThemeSettings) -> ThemeColours:
    """Return the colours of the theme for a newsroom's accent."""
    accent = ensure_contrast(settings.accent, PAPER)
    # A little more than enough by night: at 4.5 an accent looks dull on near-black.
    dark = ensure_contrast(settings.accent, PAPER_DARK, 6)
    return ThemeColours(accent, dark, ensure_contrast("#ffffff", accent))


def built_in_folder() -> Path:
    """Return the folder of the theme that comes with Postroom.

    It lies inside the package once installed, and beside `src` in a checkout.
    """
    packaged = Path(__file__).parents[1] / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "templates"


class _Loader(FileSystemLoader):
    """Finds templates in folders, first come, first served; `refuse` may raise for a file."""

    def __init__(self, folders: Sequence[Path], refuse: Callable[[Path], None]) -> None:
        super().__init__(folders)
        self._refuse = refuse

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """Return the text of `template`, its file, and a test of whether it is still fresh."""
        found = super().get_source(environment, template)
        self._refuse(Path(found[1]))
        return found


@define
class Theme:
    """The templates of a newsroom: its own, and behind them the theme's."""

    site_dir: Path
    language: str
    own: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.own = self.site_dir / "templates"

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        # Sandboxed, since a pull request may bring templates: they see values, nothing else.
        environment = ImmutableSandboxedEnvironment(
            loader=_Loader([self.own, built_in_folder()], self._refuse_link),
            autoescape=lambda name: not (name or "").endswith((".txt", ".css")),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["tel"] = tel_url
        return environment

    @cached_property
    def words(self) -> Translations:
        """The words of the newsroom's language; what it lacks is English."""
        base = self.language.split("-", maxsplit=1)[0]
        tags = dict.fromkeys(("en", base, self.language))
        files = [
            folder / "translations" / f"{tag}.yaml"
            for tag in tags
            for folder in (built_in_folder(), self.own)
        ]
        return load_translations(
            self.language, (self._read_words(path) for path in files if path.is_file())
        )

    @property
    def speaks(self) -> bool:
        """Whether there are words for the newsroom's language."""
        base = self.language.split("-", maxsplit=1)[0]
        names = [f"translations/{tag}.yaml" for tag in (base, self.language)]
        return any(
            (folder / name).is_file() for folder in (built_in_folder(), self.own) for name in names
        )

    def _read_words(self, path: Path) -> Mapping[str, str]:
        read = validation.mapping(_word)
        name = self._name(str(path))
        self._refuse_link(path)
        try:
            return read(parse(path.read_bytes().decode("utf-8-sig"), limit=_WORDS_LIMIT))
        except YamlError as fault:
            raise TemplateError(
                [Problem(name, fault.line, fault.column, message=fault.message, hint=fault.hint)]
            ) from None
        except validation.ValidationError as error:
            raise TemplateError(
                Problem(name, f.line, f.column, f.key, f.message, f.hint) for f in error.faults
            ) from None
        except UnicodeDecodeError:
            raise TemplateError(
                [Problem(name, message="is not UTF-8 text", hint="save it as UTF-8")]
            ) from None

    def render(self, template: str, values: Mapping[str, object]) -> str:
        """Return `template` filled with `values`.

        Raises `TemplateError` with the template's file and line.
        """
        try:
            return self._environment.get_template(template).render(values)
        except TemplateSyntaxError as error:
            raise self._fault(error.filename or template, error.lineno, error) from None
        except TemplateError:
            raise
        except TemplateNotFound as error:
            problem = Problem(f"templates/{error.name}", message="is not there", hint="add it")
            raise TemplateError([problem]) from None
        except Exception as error:  # noqa: BLE001 - a template can raise anything at all
            path, line = self._place(error.__traceback__, template)
            raise self._fault(path, line, error) from None

    def _fault(self, path: str, line: int, error: Exception) -> TemplateError:
        kind = "" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: "
        said = " ".join(_MODULE.sub("", str(error)).split())
        what = f"{kind}{said or type(error).__name__}"
        repair = "templates may not do this" if isinstance(error, SecurityError) else "correct it"
        return TemplateError([Problem(self._name(path), line, message=what, hint=repair)])

    def _place(self, trace: TracebackType | None, template: str) -> tuple[str, int]:
        for frame in reversed(traceback.extract_tb(trace)):
            if frame.filename.startswith((str(self.own), str(built_in_folder()))):
                return frame.filename, frame.lineno or 0
        return f"templates/{template}", 0

    def _refuse_link(self, path: Path) -> None:
        """Refuse a file that is hidden or lies elsewhere: any secret of the machine may do so."""
        real = path.resolve()
        folders = (self.site_dir.resolve() / self.own.name, built_in_folder().resolve())
        what, repair = "is a link to a file elsewhere", "put the file itself there"
        for folder in folders:
            if real.is_relative_to(folder):
                what = paths.hidden(real.relative_to(folder).as_posix())
                repair = "put it in a file that is not hidden"
                break
        if what:
            raise TemplateError([Problem(self._name(str(path)), message=what, hint=repair)])

    def _name(self, path: str) -> str:
        if path.startswith(str(self.own)):
            return f"templates/{Path(path).relative_to(self.own).as_posix()}"
        if path.startswith(str(built_in_folder())):
            return f"theme/{Path(path).relative_to(built_in_folder()).as_posix()}"
        return path


def _word(node: Node) -> str:
    """Read a word of the theme; the only thing that is filled in is a `{}`."""
    value = validation.text(node)
    try:
        value.format("")
    except (IndexError, KeyError, ValueError, AttributeError):
        raise validation.error_at(
            node, "write {} where something is filled in, no other brace"
        ) from None
    return value


def tel_url(number: str) -> str:
    """Return the address that dials `number` (RFC 3966 §3, in the global form of E.164)."""
    # The zero in +49 (0) 30 is for callers inside the country: E.164 has no place for it.
    return "tel:+" + re.sub(r"\(0\)|[^0-9]", "", number)
