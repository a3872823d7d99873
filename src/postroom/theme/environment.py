"""Render templates: those of the theme, and those of a site that replace them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType, TracebackType

import jinja2
from attrs import define, field, frozen
from jinja2 import BytecodeCache, FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.bccache import Bucket
from jinja2.exceptions import SecurityError, TemplateNotFound

from postroom.contrast import ensure_contrast
from postroom.errors import Problem, SettingsError, TemplateError
from postroom.models import Site, ThemeSettings
from postroom.settings import paths, validation
from postroom.settings.site import FILE_NAME, IMAGE_HINT, path_problem
from postroom.settings.yaml_reader import Node, YamlError, parse
from postroom.theme.i18n import Translations, load_translations
from postroom.theme.sandbox import BoundedEnvironment

_TRANSLATIONS_LIMIT = 64 * 1024
PAPER, PAPER_DARK = "#ffffff", "#14171a"
"""The background colours of the theme, light and dark."""
# Error messages name classes without their module, which means nothing to template authors.
_MODULE = re.compile(r"postroom\.models\.")


@frozen
class ThemeColours:
    """The accent colour of a site, adjusted for the light and for the dark background.

    Each variant has enough contrast on its background (WCAG 2.2, SC 1.4.3).
    """

    accent: str
    accent_dark: str
    on_accent: str


def theme_colours(settings: ThemeSettings) -> ThemeColours:
    """Return the colours of the theme for the accent of a site."""
    accent = ensure_contrast(settings.accent, PAPER)
    # A ratio of 6 instead of 4.5, at which an accent looks dull on near-black.
    dark = ensure_contrast(settings.accent, PAPER_DARK, 6)
    return ThemeColours(accent, dark, ensure_contrast("#ffffff", accent))


def _theme_folder() -> Path:
    installed = Path(__file__).parents[1] / "templates"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "templates"


THEME_FOLDER = _theme_folder()
"""The folder of the theme: inside the package in a wheel, `templates` in a checkout."""


class _Loader(FileSystemLoader):
    """A template loader that calls `check` with each path; `check` raises to refuse the file."""

    def __init__(self, folders: Sequence[Path], check: Callable[[Path], None]) -> None:
        super().__init__(folders)
        self._check = check

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """Return the text of `template`, its path, and a function that tells if it is current."""
        source = super().get_source(environment, template)
        self._check(Path(source[1]))
        return source


class _CompiledTemplates(BytecodeCache):
    """The compiled templates of all themes of a process, the latest version of each file.

    They are the same for every site, since all environments have the same options and filters.
    """

    def __init__(self) -> None:
        self._codes: dict[str, tuple[str, CodeType]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Set the code of `bucket` if this version of its template is compiled."""
        # The key stands for the name and path of the template, the checksum for its source.
        checksum, code = self._codes.get(bucket.key, ("", None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store the code of `bucket`."""
        if bucket.code is not None:
            self._codes[bucket.key] = (bucket.checksum, bucket.code)


_COMPILED = _CompiledTemplates()


@define
class Theme:
    """The templates of a site; its own take precedence over those of the theme."""

    site_dir: Path
    language: str
    site_templates: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.site_templates = self.site_dir / "templates"

    @cached_property
    def _environment(self) -> BoundedEnvironment:
        # A sandbox, because a pull request may contain templates: they can read values and no more.
        environment = BoundedEnvironment(
            loader=_Loader([self.site_templates, THEME_FOLDER], self._check_path),
            autoescape=lambda name: not (name or "").endswith((".txt", ".css")),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            bytecode_cache=_COMPILED,
        )
        environment.filters["tel"] = tel_url
        return environment

    @cached_property
    def translations(self) -> Translations:
        """The texts of the theme in the language of the site, in English where one is missing."""
        files = (*self._translation_files("en"), *self._translation_files(*self._tags))
        return load_translations(self.language, map(self._read_translations, dict.fromkeys(files)))

    @property
    def has_translations(self) -> bool:
        """Whether the theme or the site has translations for the language of the site."""
        return any(self._translation_files(*self._tags))

    @property
    def _tags(self) -> tuple[str, str]:
        return self.language.split("-", maxsplit=1)[0], self.language

    def _translation_files(self, *tags: str) -> Iterator[Path]:
        """Yield the files of these languages; the last one takes precedence."""
        for tag in tags:
            for folder in (THEME_FOLDER, self.site_templates):
                path = folder / "translations" / f"{tag}.yaml"
                if path.is_file():
                    yield path

    def _read_translations(self, path: Path) -> Mapping[str, str]:
        read = validation.mapping(_translation)
        name = self._name(str(path))
        self._check_path(path)
        try:
            return read(parse(path.read_bytes().decode("utf-8-sig"), limit=_TRANSLATIONS_LIMIT))
        except YamlError as error:
            raise TemplateError(
                [Problem(name, error.line, error.column, message=error.message, hint=error.hint)]
            ) from None
        except validation.ValidationError as error:
            raise TemplateError(
                Problem(name, fault.line, fault.column, fault.key, fault.message, fault.hint)
                for fault in error.faults
            ) from None
        except UnicodeDecodeError:
            raise TemplateError(
                [Problem(name, message="is not UTF-8 text", hint="save it as UTF-8")]
            ) from None

    def render(self, template: str, values: Mapping[str, object]) -> str:
        """Render `template` with `values`.

        Raises `TemplateError` with the template's file and line.
        """
        self._environment.steps = 0
        try:
            return self._environment.get_template(template).render(values)
        except TemplateSyntaxError as error:
            raise self._template_error(error.filename or template, error.lineno, error) from None
        except TemplateError:
            raise
        except TemplateNotFound as error:
            problem = Problem(f"templates/{error.name}", message="does not exist", hint="add it")
            raise TemplateError([problem]) from None
        except Exception as error:  # noqa: BLE001 - a template can raise any exception
            path, line = self._location(error.__traceback__, template)
            raise self._template_error(path, line, error) from None

    def _template_error(self, path: str, line: int, error: Exception) -> TemplateError:
        kind = "" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: "
        text = " ".join(_MODULE.sub("", str(error)).split())
        message = f"{kind}{text or type(error).__name__}"
        hint = "templates may not do this" if isinstance(error, SecurityError) else "correct it"
        return TemplateError([Problem(self._name(path), line, message=message, hint=hint)])

    def _location(self, trace: TracebackType | None, template: str) -> tuple[str, int]:
        for frame in reversed(traceback.extract_tb(trace)):
            path = Path(frame.filename)
            if path.is_relative_to(self.site_templates) or path.is_relative_to(THEME_FOLDER):
                return frame.filename, frame.lineno or 0
        return f"templates/{template}", 0

    def _check_path(self, path: Path) -> None:
        """Raise if `path` is a hidden file or a link to another folder: it may lead to a secret."""
        real = path.resolve()
        folders = (self.site_dir.resolve() / self.site_templates.name, THEME_FOLDER.resolve())
        message, hint = "is a link to a file in another folder", "replace it by the file itself"
        for folder in folders:
            if real.is_relative_to(folder):
                message = paths.hidden(real.relative_to(folder).as_posix())
                hint = "move it to a file that is not hidden"
                break
        if message:
            raise TemplateError([Problem(self._name(str(path)), message=message, hint=hint)])

    def _name(self, path: str) -> str:
        """Return the path of a template in the form that messages use."""
        for name, folder in (("templates", self.site_templates), ("theme", THEME_FOLDER)):
            if Path(path).is_relative_to(folder):
                return f"{name}/{Path(path).relative_to(folder).as_posix()}"
        return path


def _translation(node: Node) -> str:
    """Read a translation, in which only `{}` may stand for a value."""
    value = validation.text(node)
    # A width such as {:>4000000000} would fill the memory.
    if re.search(r"[{}]", value.replace("{}", "", 1)):
        raise validation.error_at(node, "write {} in place of a value, and no other braces")
    return value


def tel_url(number: str) -> str:
    """Return the `tel:` URL of `number` (RFC 3966 §3, in the global form of E.164)."""
    # The zero in +49 (0) 30 is for calls within the country and not part of E.164.
    return "tel:+" + re.sub(r"\(0\)|[^0-9]", "", number)


def read_logo(site_dir: Path, site: Site) -> bytes | None:
    """Return the bytes of the logo, or None if the setting or the file is missing.

    Raises `SettingsError` if the path does not lead to an image inside the site: a symbolic link
    may lead to a secret.
    """
    path = site.theme.logo
    if not path:
        return None
    message = paths.image_fault(site_dir, path)
    try:
        if not message:
            return (site_dir / path).resolve().read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
    raise SettingsError([logo_problem(site_dir, site, message, IMAGE_HINT)])


def logo_problem(site_dir: Path, site: Site, message: str, hint: str) -> Problem:
    """Return a `Problem` about the setting `theme.logo`, with `message` and the line."""
    data = (site_dir / FILE_NAME).read_bytes()
    return path_problem(data, "theme.logo", site.theme.logo, message, hint)
