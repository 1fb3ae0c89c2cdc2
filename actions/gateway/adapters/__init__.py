"""One module or package for each gateway; see ``bot.action.Gateway`` for what each does."""
