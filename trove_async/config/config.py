"""`Config`: the named stores of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from trove_async.config.document import VARIABLE, Document, Source, find
from trove_async.config.lines import KeyPath
from trove_async.config.making import TARGETS, argument_of, made, make_layers
from trove_async.config.reference import Reference
from trove_async.config.store import ConfiguredStore
from trove_async.config.values import dsn_text, value_of
from trove_async.driver.base import Layer
from trove_async.driver.opening import Member, Target
from trove_async.driver.registry import import_path
from trove_async.dsn import is_name, is_store_name
from trove_async.errors import ConfigError, InvalidArgumentError, TroveError
from trove_async.guesses import guess, nearest
from trove_async.paths import local_path
from trove_async.types import EMPTY

__all__ = ["TARGETS", "Config"]

_TOP: Final = ("stores",)


class Config:
    """A configuration: named stores, their DSNs, settings and layers.

    Secrets are read when a store is asked for, and only its own.
    """

    def __init__(self, document: Document) -> None:
        for key in document.data:
            if key not in _TOP:
                raise document.unknown((key,), _TOP, "at the top there is")
        self._document = document
        self._stores: Mapping[str, Mapping[str, Any]] = {}
        for name, given in document.table(document.data.get("stores", {}), "stores").items():
            if not is_store_name(name):
                raise document.error(
                    "the name of a store begins with a letter and has letters, digits, '-' and '_'", "stores", name
                )
            self._stores = {**self._stores, name: document.table(given, "stores", name)}

    @classmethod
    def load(cls, source: Source | None = None) -> Config:
        """Read a configuration.

        Args:
            source: the path of a file, or a mapping like one; None to look for the file as `find` does.

        Raises:
            ConfigError: there is none, it cannot be read, or is malformed.
            InvalidArgumentError: no file can have this path.
        """
        if isinstance(source, Mapping):
            return cls(Document.of(source))
        if source is not None:
            return cls(Document.read(Path(local_path(source))))
        found = cls.find()
        if found is None:
            raise ConfigError(f"there is no trove.toml, and {VARIABLE} names none")
        return found

    @classmethod
    def find(cls) -> Config | None:
        """Read the configuration that `trove_async.open` uses by default; None if there is none.

        Raises:
            ConfigError: it cannot be read, is malformed, or is not trusted.
        """
        path = find()
        return None if path is None else cls(Document.read(path))

    @property
    def file(self) -> str:
        """The path of the file, for messages."""
        return self._document.file

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stores, in their order."""
        return tuple(self._stores)

    def resolve(self, name: str, settings: Mapping[str, Any] = EMPTY) -> ConfiguredStore:
        """Return a store, with its secrets and with all stores that it is over; no store is asked anything.

        Args:
            name: of the store.
            settings: replace those of the configuration.

        Raises:
            ConfigError: there is no such store, or it is wrong.
            MissingDependencyError: a package that a driver or layer needs is not installed.
        """
        if name not in self._stores:
            raise ConfigError.at(self.unknown(name), file=self.file)
        return self._store(self._stores[name], ("stores", name), settings, (name,))

    def check(self) -> list[TroveError]:
        """Return what is wrong: the first error of each store."""
        found: list[TroveError] = []
        for name in self._stores:
            try:
                self.resolve(name)
            except TroveError as error:
                if str(error) not in {str(other) for other in found}:  # of a store that two others are over
                    found.append(error)
        return found

    def description(self, name: str) -> str:
        """Return the DSN as it stands in the file, or the kind of the store, for people."""
        table = self._stores[name]
        given = table.get("dsn")
        if isinstance(given, Mapping):
            return " ".join(f"{{ {source} = {value!r} }}" for source, value in given.items())
        if isinstance(given, str):
            return given
        return next((kind for kind in TARGETS if kind in table), "")

    def unknown(self, name: str) -> str:
        """Return the message for an unknown name, with the nearest one and all others."""
        return f"there is no store {name!r}{guess(name, self.names)}; there are: {', '.join(self.names) or 'none'}"

    def _store(
        self, table: Mapping[str, Any], path: KeyPath, more: Mapping[str, Any], trail: tuple[str, ...]
    ) -> ConfiguredStore:
        """Return the store that a table describes.

        Args:
            table, path: it, and where it stands.
            more: settings that replace those of the table.
            trail: the names of the stores that refer to this one, and its own.
        """
        kinds = [kind for kind in ("dsn", *TARGETS) if kind in table]
        if len(kinds) != 1:
            known = ["dsn", *TARGETS]
            if not kinds and (mistyped := [key for key in table if nearest(key, known)]):
                raise self._document.unknown((*path, mistyped[0]), known, "a store has one of")
            said = "no" if not kinds else "both " + " and ".join(map(repr, kinds)) + " instead of one"
            raise self._document.error(f"this store has {said} key of: {', '.join(known)}", *path)
        [kind] = kinds
        if kind == "dsn":
            return self._with_dsn(table, path, (*path, "dsn"), more, trail)
        for key in table:
            if key not in (kind, "layers"):
                raise self._document.unknown((*path, key), (kind, "layers"), f"a store with {kind!r} has")
        target = self._over(kind, table[kind], (*path, kind), trail)
        layers = self._layers(table, path, trail)
        return ConfiguredStore(self._document, path, (*path, kind), target, EMPTY, layers)

    def _with_dsn(
        self,
        table: Mapping[str, Any],
        path: KeyPath,
        dsn_path: KeyPath,
        more: Mapping[str, Any],
        trail: tuple[str, ...],
    ) -> ConfiguredStore:
        settings = {
            key: self._setting(key, value, (*path, key)) for key, value in table.items() if key not in ("dsn", "layers")
        }
        text = dsn_text(self._document, table["dsn"], dsn_path)
        layers = self._layers(table, path, trail)
        store = ConfiguredStore(self._document, path, dsn_path, text, settings, layers)
        if is_name(text):
            with store.blaming(more):
                store = replace(store, target=self._referred(text, dsn_path, {**settings, **more}, trail))
        store.check(more)
        return store

    def _layers(self, table: Mapping[str, Any], path: KeyPath, trail: tuple[str, ...]) -> tuple[Layer, ...]:
        refer = partial(self._referred, more=EMPTY, trail=trail)
        return make_layers(self._document, table.get("layers", []), (*path, "layers"), refer)

    def _setting(self, key: str, value: object, path: KeyPath) -> object:
        if key in ("cleanup_timeout", "transfer_memory"):
            raise self._document.error("this is an argument of open() and of no store", *path)
        found = value_of(self._document, value, path)
        if isinstance(found, Mapping):
            raise self._document.error(
                'a setting is text, a number, true or false; or { env = "NAME" }, { file = "PATH" }, { path = "PATH" }',
                *path,
            )
        return found

    def _referred(self, text: str, path: KeyPath, more: Mapping[str, Any], trail: tuple[str, ...]) -> Target:
        """Return the store of the same configuration that a name or ``trove://…`` refers to."""
        try:
            named = Reference.of(text)
        except InvalidArgumentError as error:
            raise self._document.error(error.message, *path) from error
        if named.name not in self._stores:
            raise self._document.error(self.unknown(named.name), *path)
        if named.name in trail:
            circle = " -> ".join([*trail[trail.index(named.name) :], named.name])
            raise self._document.error(f"the stores refer to each other in a circle: {circle}", *path)
        both = {**named.settings, **more}
        store = self._store(self._stores[named.name], ("stores", named.name), both, (*trail, named.name))
        return named.within(replace(store, settings={**store.settings, **named.settings}))

    def _over(self, kind: str, given: object, path: KeyPath, trail: tuple[str, ...]) -> Target:
        """Return a store over several stores."""
        table = self._document.table(given, *path)
        members = table.get("members")
        at = (*path, "members")
        found: object
        if isinstance(members, Mapping):
            found = {name: self._member(member, (*at, name), trail) for name, member in members.items()}
        elif isinstance(members, list | tuple):
            found = [self._member(member, (*at, index), trail) for index, member in enumerate(members)]
        else:
            raise self._document.error("members is a list of stores, or a table of stores with names", *at)
        refer = partial(self._referred, more=EMPTY, trail=trail)
        arguments = {
            key: argument_of(self._document, value, (*path, key), refer)
            for key, value in table.items()
            if key != "members"
        }
        factory = partial(import_path(TARGETS[kind]), found)
        target: Target = made(self._document, kind, factory, arguments, path, more=("members",))
        return target

    def _member(self, given: object, path: KeyPath, trail: tuple[str, ...]) -> Member:
        if isinstance(given, str):
            return self._with_dsn({"dsn": given}, path, path, EMPTY, trail).member()
        if isinstance(given, Mapping):
            return self._store(self._document.table(given, *path), path, EMPTY, trail).member()
        raise self._document.error("a member is the name of a store, a DSN, or a table like that of a store", *path)

    def __repr__(self) -> str:
        return f"<Config {self.file}: {', '.join(self.names)}>"
