"""The store of the newsroom that a command is called in, and the keys from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroom import tokens
from postroom.database import engine
from postroom.store import Store, open_store


@contextmanager
def opened_store(newsroom: Path) -> Iterator[Store]:
    """Open the newsroom's store for a block; POSTROOM_DATABASE_URL says where it is.

    Raises `SettingsError` and `DatabaseError`.
    """
    store = open_store(os.environ.get(engine.VARIABLE) or None, newsroom)
    try:
        yield store
    finally:
        store.database.close()


def keys_for(store: Store) -> tokens.Keys:
    """Return the secret keys, once the store knows their oldest one.

    Raises `SettingsError` if there are none, or the oldest is not that of the suppressions.
    """
    keys = tokens.read_keys(os.environ.get(tokens.VARIABLE))
    store.suppressions.require_key(keys.proof)
    return keys
