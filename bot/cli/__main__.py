"""``python -m bot.cli`` is ``firedoor``."""

from bot.cli.main import main

main()
