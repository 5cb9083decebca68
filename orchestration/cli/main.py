"""The `orbitforge` command. Everything heavy is imported inside the commands, so that `--help` stays quick."""

from __future__ import annotations

from orchestration.cli.app import app
from orchestration.cli.commands import assets, bench, intake, lineage, making, pages
from orchestration.last_words import promise_last_words

# in the order of --help
for theme in (making, assets, intake, lineage, bench, pages):
    app.add_typer(theme.commands)


def main() -> None:
    promise_last_words()
    app()


if __name__ == "__main__":
    main()
