"""Who is told: an observer of the record stream that reaches out by command, webhook, mail and ping."""
