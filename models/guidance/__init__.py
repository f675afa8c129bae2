"""Score distillation: noise process, terms, schedules, mixing."""
