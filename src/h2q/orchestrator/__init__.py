"""Floor 7: several crystals, one machine, hard budgets."""
