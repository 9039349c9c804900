"""What variables, `.env` and `.secrets` say of a project: settings, and secrets by name, opened where they are sealed.

Made by the settings, which lay the first over functions.toml; the loader asks for the others, for functions that name
them. A variable of the process beats `.secrets`, and that beats `.env`: who starts a process has the last word.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from runtime.base.errors import SettingsError, did_you_mean
from runtime.base.secrets.files import ENV_FILE, SECRETS_FILE, Entry, is_readable_by_others, read_entries
from runtime.base.secrets.given import NoSecret
from runtime.base.secrets.masking import hide
from runtime.base.secrets.sealing import FILE_VARIABLE, KEY_VARIABLE, PREFIX, Keyring, Unopened, keyring_of, name_of

OURS = "FNRUN_"
KEY_VARIABLES = (KEY_VARIABLE, FILE_VARIABLE)


class Vault:
    """See above. sealed: what stands in `.secrets`, and whatever is encrypted, is not for this process, nor the keys.

    connections: URLs that functions.toml gives in parts, by name, as they are asked for.
    """

    def __init__(self, root: Path, environ: Mapping[str, str], *, sealed: bool = False) -> None:
        self.sealed = sealed
        self._environ = environ
        self._env = read_entries(root / ENV_FILE)
        self._secrets = {} if sealed else read_entries(root / SECRETS_FILE)
        self.connections: Mapping[str, Callable[[], str]] = {}
        self.warnings: list[str] = []
        self._check_names()
        said = {name: entry.value for name, entry in self._env.items()} | dict(environ)
        self._keyring = Keyring() if sealed else keyring_of(said, root)
        if self._secrets and is_readable_by_others(root / SECRETS_FILE):
            self.warnings.append(f"{SECRETS_FILE} can be read by others on this machine; chmod 600 {SECRETS_FILE}")
        self._hide_all()

    def settings(self) -> Iterator[tuple[str, str, str]]:
        """Settings: name, text, and where it stands; the weakest first."""
        for entries in (self._env, self._secrets):
            for entry in entries.values():
                if _is_setting(entry.name):
                    yield entry.name, entry.value, entry.place
        for name, text in sorted(self._environ.items()):
            if _is_setting(name):
                yield name, text, name

    @property
    def variables(self) -> dict[str, str]:
        """What `.env` says that is no setting: for the environment of handlers."""
        return {entry.name: entry.value for entry in self._env.values() if not entry.name.startswith(OURS)}

    def open(self, name: str, text: str, where: str) -> str:
        """A value, decrypted if it is sealed, and never shown from then on. SettingsError that says where it stands."""
        value = self.reveal(name, text, where)
        hide([value])
        return value

    def reveal(self, name: str, text: str, where: str) -> str:
        """The same of a value of which only a part is a secret, which the caller hides."""
        try:
            return self._keyring.open(name_of(name), text) if text.startswith(PREFIX) else text
        except Unopened as error:
            raise SettingsError(f"{where}: {name} {error}" if where != name else f"{name} {error}") from None

    def get(self, name: str) -> str:
        """A secret by its name. NoSecret if it is not there, SettingsError if it cannot be opened."""
        if name in self._environ:
            return self.open(name, self._environ[name], name)
        if (entry := self._secrets.get(name)) is not None:
            return self.open(name, entry.value, entry.place)
        if name in self.connections:
            return self.open(name, self.connections[name](), name)
        if (entry := self._env.get(name)) is not None:
            return self.open(name, entry.value, entry.place)
        known = [one for one in (*self._secrets, *self.connections) if not one.startswith(OURS)]
        fix = did_you_mean(name, known) or (
            f"; it is expected as a variable, or in {SECRETS_FILE}: `fnrun secrets encrypt {name} --write`"
        )
        raise NoSecret(f'there is no secret "{name}"{fix}')

    def _hide_all(self) -> None:
        """Learn every value of `.secrets`, used or not, so that none is shown; note those that do not open."""
        hide(
            entry.value for entry in self._secrets.values() if not entry.value.startswith(PREFIX) and not _is_url(entry)
        )
        for entry in self._secrets.values():
            if entry.value.startswith(PREFIX):
                try:
                    value = self._keyring.open(name_of(entry.name), entry.value)
                except Unopened as error:
                    self.warnings.append(f"{entry.place}: {entry.name} {error}")
                else:
                    if not _is_url(entry):
                        hide([value])

    def _check_names(self) -> None:
        for entry in (*self._env.values(), *self._secrets.values()):
            if not entry.name.startswith(OURS) or _is_setting(entry.name):
                continue
            file = entry.place.partition(":")[0]
            if entry.name not in KEY_VARIABLES:
                raise SettingsError(
                    f"{entry.place}: {entry.name} is no setting (these are FNRUN_SECTION__NAME, with two underscores); "
                    "give it to the process as a variable"
                )
            if file == SECRETS_FILE:
                raise SettingsError(
                    f"{entry.place}: {entry.name} is what opens this file, and does not belong in it; "
                    "give it to the process as a variable, or name a file elsewhere by FNRUN_SECRET_KEY_FILE"
                )


def _is_setting(name: str) -> bool:
    return name.startswith(OURS) and "__" in name


def _is_url(entry: Entry) -> bool:
    """The store's address: of that only the password is a secret, which the settings hide."""
    return name_of(entry.name) == "store.url"
