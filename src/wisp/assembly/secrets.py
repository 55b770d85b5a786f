"""Secrets: read out here by ``wisp up``, held by the keeper in memory, read inside at the moment of a start.

A secret is in no file of the cloud and in no event; the database has its fingerprint only: a hash with a salt that
is held beside the values and lives as long as the keeper.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from wisp.assembly.settings import CloudFolder
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.memory import in_memory, read_memory
from wisp.drivers.keeper.process import living_keeper
from wisp.model.description import DesiredState, SecretSource
from wisp.primitives.errors import PermanentDriverError, StateError, TransientDriverError

HELD = "secrets"
LONGEST_BYTES = 16 << 10
_SALT_BYTES = 32
_FINGERPRINT_DIGITS = 16


class Vault(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper holds.

    Attributes:
        salt: Of the fingerprints.
        values: By name of the secret.
    """

    salt: bytes
    values: dict[str, str]

    def fingerprint(self, name: str) -> str:
        """Give what changes with the value and tells nothing of it."""
        text = f"{name}\0{self.values[name]}".encode()
        return hmac.new(self.salt, text, hashlib.sha256).hexdigest()[:_FINGERPRINT_DIGITS]


async def filled_vault(folder: CloudFolder, sources: Iterable[SecretSource]) -> Vault:
    """Give the values of secrets as they are now, with the salt of the running cloud or a new one.

    Raises:
        StateError: A secret cannot be read.
    """
    values = {source.name: _value(source) for source in sources}
    if living_keeper(folder.path) is not None:
        async with await KeeperClient.connect(folder.path) as keeper:
            if kept := await _kept(keeper):
                return Vault(salt=kept.salt, values=values)
    return Vault(salt=secrets.token_bytes(_SALT_BYTES), values=values)


def fingerprinted(desired: DesiredState, vault: Vault) -> DesiredState:
    """Give a description whose secrets have fingerprints."""
    return replace(
        desired, secrets=tuple(replace(each, fingerprint=vault.fingerprint(each.name)) for each in desired.secrets)
    )


async def keep(keeper: KeeperClient, vault: Vault) -> None:
    """Have the keeper hold these values instead of those before."""
    if await _kept(keeper) == vault:
        return
    with in_memory(HELD, msgspec.json.encode(vault)) as descriptor:
        await keeper.release([HELD])
        if vault.values:
            await keeper.hold({HELD: descriptor})


async def kept_values(keeper: KeeperClient, names: Iterable[str]) -> Mapping[str, str]:
    """Give the values of some secrets.

    Raises:
        TransientDriverError: The keeper holds none, since ``wisp up`` is just changing them.
    """
    wanted = set(names)
    if not wanted:
        return {}
    vault = await _kept(keeper)
    if vault is None:
        raise TransientDriverError("the keeper holds no secrets; `wisp up FILE` reads them again", driver="keeper")
    return {name: value for name, value in vault.values.items() if name in wanted}


async def _kept(keeper: KeeperClient) -> Vault | None:
    try:
        (descriptor,) = await keeper.fetch([HELD])
    except PermanentDriverError:
        return None
    try:
        return msgspec.json.decode(read_memory(descriptor), type=Vault)
    finally:
        os.close(descriptor)


def _value(source: SecretSource) -> str:
    value = _from_file(source.name, source.file) if source.file else _from_environment(source)
    if "\0" in value or len(value.encode()) > LONGEST_BYTES:
        raise StateError(
            f"secret {source.name} holds a zero byte or more than {LONGEST_BYTES} bytes; nothing was changed"
        )
    return value


def _from_environment(source: SecretSource) -> str:
    value = os.environ.get(source.environment or "")
    if value is None:
        raise StateError(
            f"secret {source.name}: the variable {source.environment} is not set; set it, and nothing was changed"
        )
    return value


def _from_file(name: str, path: str) -> str:
    """Read a file; one line end at its end, which editors put there, is no part of the secret."""
    try:
        return Path(path).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise StateError(f"secret {name}: cannot read {path}: {why}; nothing was changed") from None
