"""Actions: one package a family, one module a provider. ``actions.all`` lists every action."""
